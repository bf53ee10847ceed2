// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import ProcessImage

// What a process has once: signal actions, timers, limits, switches of prctl(2).
extension Construction {
    /// Everything that is not memory, in the order in which it is still possible.
    func finish() throws(RestoreError) {
        try makeThreads()
        try makeDescriptors()
        try setProcess()
        try furnishThreads()
        try setAfterCredentials()
        makeResident()
        for (index, thread) in description.threads.enumerated() {
            try prepareToGo(thread, tracees[index])
        }
    }

    /// What needs the restorer's credentials.
    private func setProcess() throws(RestoreError) {
        let settings = description.settings
        var batch = runner.makeBatch()
        let directory = batch.place(description.identity.workingDirectory)
        if !description.identity.workingDirectory.isEmpty {
            batch.call(SYS_chdir, directory, for: "enter \"\(description.identity.workingDirectory)\"")
        }
        batch.call(SYS_umask, UInt64(settings.umask), for: "set the umask")
        batch.call(SYS_personality, UInt64(settings.personality), for: "set the personality")
        if settings.childSubreaper {
            batch.call(SYS_prctl, Kernel.setChildSubreaper, 1, for: "become a child subreaper")
        }
        if description.memory.hugePagesDisabled {
            batch.call(SYS_prctl, Kernel.setHugePagesDisabled, 1, for: "switch huge pages off")
        }
        if description.memory.lockFutureFlags != 0 {
            batch.call(SYS_mlockall, UInt64(description.memory.lockFutureFlags), for: "lock future mappings")
        }
        addActions(to: &batch)
        addTimers(to: &batch)
        try runner.run(batch, on: leader)
        try setProcFile("oom_score_adj", String(settings.oomScoreAdjustment))
        try setProcFile("coredump_filter", "0x" + String(settings.coreDumpFilter, radix: 16))
        batch = runner.makeBatch()
        for resource in 0..<settings.limits.count / 2 {
            let limit = batch.place(words: Array(settings.limits[resource * 2..<resource * 2 + 2]))
            batch.call(SYS_prlimit64, 0, UInt64(resource), limit, 0, for: "set limit \(resource) of setrlimit(2)")
        }
        try runner.run(batch, on: leader)
    }

    /// What a change of credentials takes away.
    private func setAfterCredentials() throws(RestoreError) {
        let settings = description.settings
        var batch = runner.makeBatch()
        if settings.parentDeathSignal != 0 {
            batch.call(
                SYS_prctl,
                Kernel.setParentDeathSignal,
                UInt64(settings.parentDeathSignal),
                for: "set the parent-death signal"
            )
        }
        // 2 cannot be set: the kernel gave it, or will, with the credentials.
        if settings.dumpable < 2 {
            batch.call(SYS_prctl, Kernel.setDumpable, UInt64(settings.dumpable), for: "set dumpable")
        }
        try runner.run(batch, on: leader)
    }

    /// Writes a file of `/proc/self` in the process unless this program, whose clone it is, has the same value.
    private func setProcFile(_ name: String, _ value: String) throws(RestoreError) {
        let own = (try? FileReading.read("/proc/self/\(name)", limit: 4096)) ?? []
        let text = String(decoding: own.filter { $0 > 32 }, as: UTF8.self)
        guard Self.number(text) != Self.number(value) else { return }
        var batch = runner.makeBatch()
        let path = batch.place("/proc/self/\(name)")
        batch.call(SYS_openat, UInt64(argument: AT_FDCWD), path, UInt64(O_WRONLY), for: "open /proc/self/\(name)")
        let descriptor = UInt64(truncatingIfNeeded: try runner.run(batch, on: leader)[0])
        batch = runner.makeBatch()
        let bytes = batch.place(value)
        batch.call(SYS_write, descriptor, bytes, UInt64(value.utf8.count), for: "set \(name) to \(value)")
        batch.call(SYS_close, descriptor, for: "close /proc/self/\(name)")
        try runner.run(batch, on: leader)
    }

    /// A number of procfs: coredump_filter shows hexadecimal digits without a prefix.
    private static func number(_ text: String) -> Int? {
        text.hasPrefix("0x") ? Int(text.dropFirst(2), radix: 16) : (text.count == 8 ? Int(text, radix: 16) : Int(text))
    }

    private func addActions(to batch: inout StubBatch) {
        for (index, action) in description.signals.actions.enumerated() {
            let signal = index + 1
            // SIGKILL and SIGSTOP have none; a SIGTRAP that is ignored would be reset by the breakpoint of the next batch. Default
            // actions are set as well: what this program ignores was inherited.
            guard ![SIGKILL, SIGSTOP, SIGTRAP].contains(Int32(signal)) else { continue }
            addAction(action, signal: signal, to: &batch)
        }
    }

    /// rt_sigaction(2) with the kernel's structure: handler, flags, restorer, mask.
    func addAction(_ action: SignalAction, signal: Int, to batch: inout StubBatch) {
        let words = batch.place(words: [action.handler, action.flags, action.restorer, action.mask])
        batch.call(SYS_rt_sigaction, UInt64(signal), words, 0, 8, for: "set the action of signal \(signal)")
    }

    /// Makes the POSIX timers with their ids; they are armed by ``addTimerStarts(to:)``.
    private func addTimers(to batch: inout StubBatch) {
        let timers = description.timers.posix
        guard !timers.isEmpty else { return }
        batch.call(SYS_prctl, Kernel.restoreTimerIDs, 1, for: "make timers with chosen ids (Linux 6.16)")
        for timer in timers {
            // struct sigevent: value, signal, notify, thread.
            let event = batch.place(
                timer.value.littleEndianBytes + timer.signal.littleEndianBytes + timer.notify.littleEndianBytes
                    + timer.tid.littleEndianBytes + [UInt8](repeating: 0, count: 44)
            )
            let id = batch.place(timer.id.littleEndianBytes)
            batch.call(SYS_timer_create, UInt64(argument: timer.clock), event, id, for: "make timer \(timer.id)")
        }
        batch.call(SYS_prctl, Kernel.restoreTimerIDs, 0, for: "end making timers with chosen ids")
    }

    /// Starts interval timers and POSIX timers with the time that they had left.
    func addTimerStarts(to batch: inout StubBatch) {
        for (which, timer) in description.timers.interval.enumerated() {
            // ITIMER_REAL stands still from its expiration until its signal is delivered.
            let next = timer.value == 0 && which == 0 ? timer.period : timer.value
            guard next != 0 else { continue }
            let period = Self.parts(timer.period, of: 1000)
            let value = Self.parts(next, of: 1000)
            let setting = batch.place(words: [period.0, period.1, value.0, value.1])
            batch.call(SYS_setitimer, UInt64(which), setting, 0, for: "start interval timer \(which)")
        }
        for timer in description.timers.posix where timer.timer.value != 0 {
            let setting = batch.place(words: Self.timerSpecification(timer.timer))
            batch.call(SYS_timer_settime, UInt64(argument: timer.id), 0, setting, 0, for: "start timer \(timer.id)")
        }
    }

    /// struct itimerspec: period, then value.
    static func timerSpecification(_ timer: IntervalTimer) -> [UInt64] {
        let period = parts(timer.period, of: 1)
        let value = parts(timer.value, of: 1)
        return [period.0, period.1, value.0, value.1]
    }

    /// Seconds and the rest in units of `unit` nanoseconds, rounded up: a timer that runs is never set to 0.
    static func parts(_ nanoseconds: Int64, of unit: Int64) -> (UInt64, UInt64) {
        let (whole, rest) = max(0, nanoseconds).quotientAndRemainder(dividingBy: unit)
        let units = rest == 0 ? whole : whole + 1
        let second = 1_000_000_000 / unit
        return (UInt64(units / second), UInt64(units % second))
    }
}
