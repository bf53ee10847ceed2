// SPDX-License-Identifier: Apache-2.0

/// Where the threads of a process sleep and since when, seen just before they are stopped: the stop wakes them.
struct SleepSample {
    struct Sleep: Hashable {
        /// The kernel function.
        let function: String
        /// CLOCK_MONOTONIC in nanoseconds at which the sleep began.
        let since: Int64
        /// How often the thread had gone to sleep, this time included.
        let switches: UInt64
    }

    private var sleeps: [Int32: Sleep] = [:]
    /// The timers that were set; nil where nobody may look at them.
    private var timers: KernelTimers?

    /// Looks at every thread that sleeps in a call with a time-out.
    static func take(_ pid: Int32) throws(TraceError) -> SleepSample {
        var sample = SleepSample()
        var clock = SleepClock()
        for tid in try ProcFile.threads(of: pid) {
            // A thread that ends meanwhile needs no sample.
            guard let thread = try? SleepingThread.read(pid, thread: tid), isTimed(thread.function) else { continue }
            let since = try clock.monotonic(thread)
            sample.sleeps[tid] = Sleep(function: thread.function, since: since, switches: thread.voluntarySwitches)
        }
        // Without the list the scheduler's clock has to do.
        if !sample.sleeps.isEmpty { sample.timers = try? KernelTimers.read() }
        return sample
    }

    /// Deadlines of the timers that have been set and are not any more, of so many threads that slept, which were stopped at a moment of
    /// CLOCK_MONOTONIC.
    func endedTimers(of sleepers: Int, stoppedAt moment: Int64) -> [Int64] {
        guard let gone = try? timers?.vanished(count: sleepers, before: moment) else { return [] }
        return gone.map(\.deadline)
    }

    /// Whether calls with a time-out that is not absolute wait in the kernel function.
    static func isTimed(_ function: String) -> Bool {
        ["nanosleep", "nsleep", "poll", "futex", "sigtimedwait", "sem", "do_syscall"].contains { function.contains($0) }
    }

    /// The sleep that the stop interrupted, given the switches of the stopped thread: one more, for the stop itself.
    ///
    /// - Returns: nil when the thread did something else between the look and the stop.
    func sleep(of tid: Int32, switches: UInt64?) -> Sleep? {
        guard let sleep = sleeps[tid], let switches, switches == sleep.switches + 1 else { return nil }
        return sleep
    }
}
