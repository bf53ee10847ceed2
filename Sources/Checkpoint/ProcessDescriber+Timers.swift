// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import ProcessImage
internal import ProcessTrace

/// Where the answers about timers are.
struct TimerQuestions {
    private let intervals: [CallBatch.Slot]
    private let posix: [(entry: PosixTimerEntry, time: CallBatch.Slot, overrun: CallBatch.Index)]

    /// Adds the questions to what a thread is asked.
    init(about timers: [PosixTimerEntry], in batch: inout CallBatch) {
        var intervals: [CallBatch.Slot] = []
        for which in 0..<3 {
            let slot = batch.output(32)
            intervals.append(slot)
            batch.call(SYS_getitimer, .int(which), .data(slot))
        }
        self.intervals = intervals
        var posix: [(entry: PosixTimerEntry, time: CallBatch.Slot, overrun: CallBatch.Index)] = []
        for timer in timers {
            let slot = batch.output(32)
            batch.call(SYS_timer_gettime, .int(timer.id), .data(slot))
            posix.append((timer, slot, batch.call(SYS_timer_getoverrun, .int(timer.id))))
        }
        self.posix = posix
    }

    /// What has been answered.
    ///
    /// - Parameter innerID: the id of a thread as the process sees it.
    func answers(_ results: BatchResults, innerID: (Int32) -> Int32) -> TimerDescription {
        var description = TimerDescription()
        // struct itimerval: interval, then value, each in seconds and microseconds; struct itimerspec: in nanoseconds.
        description.interval = intervals.map { Self.timer(results, $0, unit: 1000) }
        description.posix = posix.map { entry, slot, overrun in
            var timer = POSIXTimer()
            timer.id = entry.id
            timer.clock = entry.clock
            timer.notify = entry.notify
            timer.signal = entry.signal
            timer.tid = entry.notify & 4 != 0 ? innerID(entry.target) : 0
            timer.value = entry.value
            timer.overrun = Int32(clamping: max(0, results[overrun]))
            timer.timer = Self.timer(results, slot, unit: 1)
            return timer
        }
        return description
    }

    private static func timer(_ results: BatchResults, _ slot: CallBatch.Slot, unit: Int64) -> IntervalTimer {
        func time(at offset: Int) -> Int64 {
            let seconds = Int64(bitPattern: results.word(slot, at: offset))
            let fraction = Int64(bitPattern: results.word(slot, at: offset + 8))
            return seconds &* 1_000_000_000 &+ fraction &* unit
        }
        var timer = IntervalTimer()
        timer.period = time(at: 0)
        timer.value = time(at: 16)
        return timer
    }
}

// Timers of a stopped process go on and go off. One that goes off between a look at the timers and a look at the signals would
// be carried twice: as a signal, and as a timer that is still to go off.
extension ProcessDescriber {
    /// How often timers and signals are looked at again: timers with periods of microseconds always go off meanwhile.
    private static let looks = 8

    /// Describes timers and signals as they were at one moment.
    ///
    /// - Parameters:
    ///   - first: the timers, looked at behind `began`.
    ///   - entries: the timers of the process.
    func describeTimersAndSignals(
        _ first: TimerDescription,
        _ entries: [PosixTimerEntry],
        began: MonotonicTime
    ) throws {
        description.timers = first
        var began = began
        for look in 1...Self.looks {
            try readSignals()
            let passed = MonotonicTime.now - began
            guard look < Self.looks, Self.mayHaveGoneOff(description.timers, within: passed) else { return }
            began = .now
            var batch = CallBatch()
            let questions = TimerQuestions(about: entries, in: &batch)
            let leader = process.threads[0].tracee
            let results = try process.injector.runOnAll([(leader, batch)])
            description.timers = questions.answers(results[0], innerID: innerID)
        }
    }

    private static func mayHaveGoneOff(_ timers: TimerDescription, within time: Duration) -> Bool {
        (timers.interval + timers.posix.map(\.timer)).contains { $0.value > 0 && .nanoseconds($0.value) <= time }
    }

    private func readSignals() throws {
        for (index, thread) in process.threads.enumerated() {
            description.threads[index].pendingSignals = try Self.signals(of: thread.tracee, shared: false)
        }
        description.signals.pending = try Self.signals(of: process.group.leader, shared: true)
    }

    private static func signals(of tracee: Tracee, shared: Bool) throws(TraceError) -> [SignalInformation] {
        try tracee.pendingSignals(shared: shared).map { bytes in
            var information = SignalInformation()
            information.bytes = bytes
            return information
        }
    }
}
