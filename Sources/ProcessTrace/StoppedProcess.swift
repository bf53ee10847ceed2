// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem

/// All threads of a process, stopped, with what each needs to go on as if nothing had happened.
///
/// It belongs to the thread that stopped it. A value that is dropped lets the process go.
public final class StoppedProcess {
    /// The threads as tracees, the leader first.
    public let group: TraceeGroup
    /// The memory of the process.
    public let memory: ProcessMemory
    /// Makes calls in the threads.
    ///
    /// One that sleeps must not be made: the thread's own call then ended with EINTR.
    public let injector: SystemCallInjector
    /// The threads, the leader first.
    public let threads: [StoppedThread]
    /// When the first thread was told to stop.
    public let began: MonotonicTime

    /// What the calling thread was allowed before it moved to the CPU of the process.
    private var affinity: CPUAffinity?
    private var isLetGo = false

    private init(
        _ group: TraceeGroup,
        _ injector: SystemCallInjector,
        _ threads: [StoppedThread],
        began: MonotonicTime,
        affinity: CPUAffinity
    ) {
        self.group = group
        self.injector = injector
        self.threads = threads
        self.began = began
        self.affinity = affinity
        memory = injector.memory
    }

    deinit {
        // Whoever dropped the value has no use for an error, and the kernel lets go of threads whose tracer ends.
        if !isLetGo { try? letGo() }
    }

    /// Looks at where the threads of a process sleep, and stops them.
    ///
    /// The calling thread moves to the CPU on which the leader ran, until ``leaveCPU()`` or ``letGo(runsOn:)``: a stop and an answer
    /// between two CPUs cost ten times as much as on one.
    ///
    /// - Parameters:
    ///   - pid: a process that runs 64-bit code and has no sockets. recv(2) and its like with SO_RCVTIMEO or SO_SNDTIMEO show an
    ///     EINTR that cannot be told from others.
    ///   - options: of PTRACE_SEIZE.
    ///   - timeout: how long stopping all threads may take; the process is let go when it passes.
    /// - Throws: ``TraceError``; the process runs on.
    public static func stop(
        _ pid: Int32,
        options: TraceOptions = [],
        timeout: Duration
    ) throws(TraceError) -> StoppedProcess {
        // Found while the process runs: its code does not move.
        let injector = try SystemCallInjector(memory: ProcessMemory(pid: pid))
        let sample = try SleepSample.take(pid)
        let affinity = try moveToCPU(of: pid)
        do throws(TraceError) {
            let began = MonotonicTime.now
            let group = try TraceeGroup.freeze(pid, options: options, deadline: .after(timeout))
            do throws(TraceError) {
                let threads = try look(group, injector.memory, sample, began)
                return StoppedProcess(group, injector, threads, began: began, affinity: affinity)
            } catch {
                // The first error tells more.
                try? group.thaw()
                throw error
            }
        } catch {
            try? affinity.apply()
            throw error
        }
    }

    private static func moveToCPU(of pid: Int32) throws(TraceError) -> CPUAffinity {
        let processor = try ProcessStat.read(pid).processor
        do { return try CPUAffinity.pin(to: processor) } catch {
            throw TraceError(error, "Cannot move to CPU \(processor), where process \(pid) runs")
        }
    }

    /// Decides how the call of each thread goes on, and how much of its time-out is left.
    private static func look(
        _ group: TraceeGroup,
        _ memory: ProcessMemory,
        _ sample: SleepSample,
        _ began: MonotonicTime
    ) throws(TraceError) -> [StoppedThread] {
        var threads: [StoppedThread] = []
        var sleepers: [(index: Int, sleeper: SleepDeadlines.Sleeper)] = []
        for tracee in group.tracees {
            var thread = try StoppedThread(tracee)
            if let sleeper = try thread.classify(sample, memory) { sleepers.append((threads.count, sleeper)) }
            threads.append(thread)
        }
        guard !sleepers.isEmpty else { return threads }
        let now = Int64(clamping: began.nanoseconds)
        let timers = sample.endedTimers(of: sleepers.count, stoppedAt: now)
        let deadlines = SleepDeadlines.match(sleepers.map(\.sleeper), timers: timers, now: now)
        for (index, sleeper) in sleepers {
            threads[index].timeLeft = max(0, (deadlines[sleeper.tid] ?? sleeper.expected) - now)
        }
        return threads
    }

    /// Id of the process.
    public var pid: Int32 { group.pid }

    /// Whether a signal had stopped the process; it is stopped again when it is let go.
    public var wasStoppedBySignal: Bool { threads.contains { $0.isGroupStopped } }

    /// Lets the calling thread run on every CPU that it could before: for a stop that lasts.
    public func leaveCPU() {
        // Without it the thread would be slower, no more.
        try? affinity?.apply()
        affinity = nil
    }

    /// Gives back what the stop took from calls that the kernel does not restart, and detaches.
    ///
    /// The rest of a time-out in memory stands in its place until the call has read it, before any other thread goes on.
    ///
    /// - Parameter runsOn: whether the threads go on at once: false when a SIGSTOP waits for them.
    /// - Throws: ``TraceError``, after all threads have been tried.
    public func letGo(runsOn: Bool = true) throws(TraceError) {
        isLetGo = true
        leaveCPU()
        let time = began.elapsed.components
        let passed = time.seconds * 1_000_000_000 + time.attoseconds / 1_000_000_000
        for thread in threads where thread.continuation == .again {
            let timeLeft = thread.timeLeft < 0 ? -1 : max(0, thread.timeLeft - passed)
            guard let registers = Registers(words: thread.call.rewound(timeLeft: timeLeft)) else { continue }
            // A thread that has been killed needs none.
            try? thread.tracee.setRegisters(registers)
            guard runsOn, !wasStoppedBySignal,
                let call = TimedCall(thread.call.number, of: thread.call, timeLeft: timeLeft)
            else { continue }
            // What goes wrong here is a thread or a mapping that is gone: it stays held, and the call starts over or fails by itself.
            _ = try? call.goOn(thread.tracee, in: memory) { tracee throws(TraceError) in try group.detach(tracee) }
        }
        try group.thaw()
    }
}
