// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import ProcessTrace

/// Fills in the description of a process whose threads are stopped.
///
/// Threads are asked in one batch for what only they know; everything else comes from `/proc` and from calls about others.
final class ProcessDescriber {
    let pid: Int32
    let group: TraceeGroup
    let memory: ProcessMemory
    let injector: SystemCallInjector
    let sample: SleepSample
    /// CLOCK_MONOTONIC in nanoseconds at which the freeze began.
    let freezeBegan: Int64
    var cache: ExaminationCache
    var survey: Survey
    var description = ProcessDescription()
    /// What stopped threads must be given before they go on here, so that they see no EINTR of ours.
    private(set) var stopped: [StoppedThread] = []
    /// Index of a file in the description by its path.
    var fileIndices: [String: UInt32] = [:]
    /// What maps and opens each file.
    private(set) lazy var filesByPath = Dictionary(grouping: survey.usedFiles, by: \.path)
    /// Index of a shared object in the description.
    var objectIndices: [ExaminationCache.ObjectKey: UInt32] = [:]
    /// By which link of `/proc` the contents of each shared object can be read.
    var objectAccess: [String] = []
    /// Index of a pipe in the description.
    var pipeIndices: [ExaminationCache.ObjectKey: UInt32] = [:]

    /// A thread with what its registers said when it stopped.
    struct StoppedThread {
        let tracee: Tracee
        let call: StoppedCall
        let mask: UInt64
        let isGroupStopped: Bool
        var continuation = StoppedCall.Continuation.none
        var timeLeft: Int64 = -1
    }

    init(
        group: TraceeGroup,
        memory: ProcessMemory,
        injector: SystemCallInjector,
        sample: SleepSample,
        cache: ExaminationCache,
        freezeBegan: MonotonicTime
    ) throws {
        pid = group.pid
        self.group = group
        self.memory = memory
        self.injector = injector
        self.sample = sample
        self.freezeBegan = Int64(clamping: freezeBegan.nanoseconds)
        self.cache = cache
        for tracee in group.tracees {
            let isGroupStopped = if case .groupStop = tracee.stop { true } else { false }
            stopped.append(
                StoppedThread(
                    tracee: tracee,
                    call: StoppedCall(registers: try tracee.registers().words),
                    mask: try tracee.signalMask(),
                    isGroupStopped: isGroupStopped
                )
            )
        }
        survey = try Survey.take(pid, .frozen, cache: &self.cache)
        try classifyCalls()
    }

    /// Describes everything.
    ///
    /// - Throws: ``CheckpointError`` with all findings when something cannot be carried.
    func describe() throws {
        guard survey.findings.isEmpty else { throw CheckpointError(refusing: pid, survey.findings) }
        try describeMachine()
        try describeIdentity()
        try describeMappings()
        try describeDescriptors()
        try askThreads()
        guard survey.findings.isEmpty else { throw CheckpointError(refusing: pid, survey.findings) }
    }

    // MARK: Calls

    /// Decides how the call of each thread goes on; findings where that is not known.
    private func classifyCalls() throws {
        let statuses = Dictionary(survey.threads.map { ($0.tid, $0.status) }, uniquingKeysWith: { first, _ in first })
        var sleepers: [(index: Int, sleeper: SleepDeadlines.Sleeper)] = []
        for index in stopped.indices {
            let thread = stopped[index]
            guard let status = statuses[thread.tracee.tid] else { continue }
            // A call of ours would come back as a SIGSYS that kills the process, so this must be known before the first one.
            if try thread.tracee.dispatchesSystemCalls() {
                survey.find(.systemCallDispatch, "thread \(thread.tracee.tid)")
            }
            guard thread.call.is64Bit else {
                survey.find(.thirtyTwoBit, "thread \(thread.tracee.tid)")
                // Its numbers of calls are others, and the kernel restarts it as it should be.
                continue
            }
            let pending = status.pendingSignals | status.sharedPendingSignals
            stopped[index].continuation = thread.call.continuation(
                handlerPending: pending & ~thread.mask & status.caughtSignals != 0,
                groupStopped: thread.isGroupStopped
            )
            if let sleeper = measure(index, status) { sleepers.append((index, sleeper)) }
        }
        guard !sleepers.isEmpty else { return }
        let timers = sample.endedTimers()
        let deadlines = SleepDeadlines.match(sleepers.map(\.sleeper), timers: timers, now: freezeBegan)
        for (index, sleeper) in sleepers {
            stopped[index].timeLeft = max(0, (deadlines[sleeper.tid] ?? sleeper.expected) - freezeBegan)
        }
    }

    private func sleep(of thread: StoppedThread, _ status: ProcessStatus) -> SleepSample.Sleep? {
        sample.sleep(of: thread.tracee.tid, switches: status.voluntarySwitches)
    }

    /// The call that a thread is in; nil when restart_syscall(2) hides it.
    private func number(_ thread: StoppedThread, _ status: ProcessStatus) -> UInt64? {
        guard thread.call.number == StoppedCall.Number.restartSyscall else { return thread.call.number }
        return sleep(of: thread, status).flatMap { thread.call.restartedNumber(sleepingIn: $0.function) }
    }

    /// Sets the time left where the registers or the kernel tell it; else returns what its deadline is to be found by.
    private func measure(_ index: Int, _ status: ProcessStatus) -> SleepDeadlines.Sleeper? {
        let thread = stopped[index]
        guard thread.continuation == .restartBlock || thread.continuation == .again else { return nil }
        guard let number = number(thread, status) else {
            survey.find(.uninterruptibleCall, "thread \(thread.tracee.tid) (in restart_syscall)")
            return nil
        }
        let requested: Int64
        switch thread.call.timeout(of: number) {
        case .none: return nil
        case .remaining(let address):
            stopped[index].timeLeft = time(at: address) ?? 0
            return nil
        case .relative(let time): requested = time
        case .timespec(let address): requested = time(at: address) ?? 0
        }
        guard let sleep = sleep(of: thread, status) else {
            // It fell asleep between the look and the stop, so hardly any time has passed.
            stopped[index].timeLeft = requested
            return nil
        }
        return SleepDeadlines.Sleeper(
            tid: thread.tracee.tid,
            since: sleep.since,
            requested: requested,
            isRestarted: thread.call.number == StoppedCall.Number.restartSyscall
        )
    }

    /// A `struct timespec` in nanoseconds; nil when it cannot be read.
    private func time(at address: UInt64) -> Int64? {
        guard let bytes = try? memory.read(VirtualAddress(address), count: 16) else { return nil }
        func word(_ offset: Int) -> UInt64 { bytes[offset..<offset + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) } }
        let (whole, overflow) = Int64(bitPattern: word(0)).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? .max : max(0, whole &+ Int64(bitPattern: word(8)))
    }

    func interruptedCall(of thread: StoppedThread, _ status: ProcessStatus) -> InterruptedCall? {
        var call = InterruptedCall()
        call.number = number(thread, status) ?? thread.call.number
        call.timeLeft = thread.timeLeft
        switch thread.continuation {
        case .none: return nil
        case .byKernel: call.continuation = .byKernel
        case .restartBlock: call.continuation = .restartBlock
        case .again: call.continuation = .again
        }
        return call
    }
}
