// SPDX-License-Identifier: Apache-2.0
internal import Paging

/// A thread of a ``StoppedProcess`` with what it needs to go on as if nothing had happened.
public struct StoppedThread {
    /// The thread, stopped.
    public let tracee: Tracee
    /// What its registers showed when it stopped.
    public let call: StoppedCall
    /// The signals that it blocked, bit 0 is signal 1.
    public let mask: UInt64
    /// Whether a signal had stopped it before.
    public let isGroupStopped: Bool
    /// Whether its system calls are redirected to code of the program (PR_SET_SYSCALL_USER_DISPATCH), injected ones as well: they would
    /// kill the process.
    public let dispatchesSystemCalls: Bool
    /// Its status behind the stop, where that was needed.
    public private(set) var status: ProcessStatus?
    /// The number of the call that it is in; nil when restart_syscall(2) hides it, which is over a moment later.
    public private(set) var number: UInt64?
    /// How its call goes on.
    public private(set) var continuation = StoppedCall.Continuation.none
    /// Nanoseconds that were left of the time-out when it stopped; -1 without one that counts from the beginning of the call.
    public internal(set) var timeLeft: Int64 = -1

    /// Looks at a stopped thread.
    init(_ tracee: Tracee) throws(TraceError) {
        self.tracee = tracee
        call = StoppedCall(registers: try tracee.registers().words)
        mask = try tracee.signalMask()
        isGroupStopped = if case .groupStop = tracee.stop { true } else { false }
        dispatchesSystemCalls = try tracee.dispatchesSystemCalls()
        number = call.number
    }

    /// Whether calls may be injected: its code is 64-bit, and its calls go to the kernel.
    public var takesInjectedCalls: Bool { call.is64Bit && !dispatchesSystemCalls }

    /// Decides how the call goes on, and sets the time left where the registers or the kernel tell it.
    ///
    /// - Returns: what the deadline is to be found by, where they do not.
    mutating func classify(
        _ sample: SleepSample,
        _ memory: ProcessMemory
    ) throws(TraceError) -> SleepDeadlines.Sleeper? {
        // Numbers of 32-bit calls are others, and the kernel restarts them as it should be.
        guard call.is64Bit else { return nil }
        var isDue = false
        if call.isEndedByStop {
            let status = try readStatus(memory.pid)
            isDue = (status.pendingSignals | status.sharedPendingSignals) & ~mask & status.caughtSignals != 0
        }
        continuation = call.continuation(handlerPending: isDue, groupStopped: isGroupStopped)
        guard continuation == .restartBlock || continuation == .again else { return nil }
        if call.isRestarted {
            number = try sleep(sample, memory.pid).flatMap { call.restartedNumber(sleepingIn: $0.function) }
        }
        guard let number else { return nil }
        let requested: Int64
        switch call.timeout(of: number) {
        case .none: return nil
        case .remaining(let address):
            timeLeft = Self.time(at: address, memory)
            return nil
        case .relative(let time): requested = time
        case .timespec(let address): requested = Self.time(at: address, memory)
        }
        guard let sleep = try sleep(sample, memory.pid) else {
            // It fell asleep between the look and the stop, so hardly any time has passed.
            timeLeft = requested
            return nil
        }
        return SleepDeadlines.Sleeper(
            tid: tracee.tid,
            since: sleep.since,
            requested: requested,
            isRestarted: call.isRestarted,
            mayBeShorter: TimedCall(number, of: call, timeLeft: 0) != nil
        )
    }

    private mutating func sleep(_ sample: SleepSample, _ pid: Int32) throws(TraceError) -> SleepSample.Sleep? {
        sample.sleep(of: tracee.tid, switches: try readStatus(pid).voluntarySwitches)
    }

    private mutating func readStatus(_ pid: Int32) throws(TraceError) -> ProcessStatus {
        if let status { return status }
        let read = try ProcessStatus.read(pid, thread: tracee.tid)
        status = read
        return read
    }

    /// A `struct timespec` in nanoseconds; 0 when it cannot be read.
    private static func time(at address: UInt64, _ memory: ProcessMemory) -> Int64 {
        // The kernel could not read it either.
        guard let words = try? memory.readWords(VirtualAddress(address), count: 2) else { return 0 }
        let (whole, overflow) = Int64(bitPattern: words[0]).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? .max : max(0, whole &+ Int64(bitPattern: words[1]))
    }
}
