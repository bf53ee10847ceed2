// SPDX-License-Identifier: Apache-2.0
internal import Checkpoint
internal import DirtyTracking
internal import Glibc
internal import LinuxSystem
internal import ProcessTrace
internal import Reporting

/// One run of `thaw track`: looks at a process at regular intervals until there is a reason to end.
struct TrackRun {
    let pid: Int32
    let interval: Duration
    /// Nil for as long as it takes.
    let rounds: UInt32?
    let choice: TrackerChoice
    let bandwidth: Bandwidth
    let renderer: any TrackRenderer
    let write: (String) -> Void

    /// How long stopping all threads may take, once at the beginning.
    private static let stopTimeout = Duration.seconds(10)

    /// Runs to the end on the calling thread.
    ///
    /// Blocks SIGINT, SIGTERM and SIGHUP there and reads them itself.
    ///
    /// - Throws: ``SessionFailure``; nothing of the tracker is left in the process then either.
    func run() throws(SessionFailure) {
        let watch = try TrackWatch(pid)
        try TrackTarget.check(pid)
        // Only a look at its memory does nothing to a process.
        if choice != .none { try TrackTarget.refuseFaultHandlers(pid) }
        let meter = try begin()
        // The number may have been given to another process before it was tracked.
        guard try !watch.processHasEnded() else { throw SessionFailure(.notFound, "process \(pid) has ended") }
        let subject = TrackSubject(
            pid: pid,
            name: TrackTarget.name(of: pid),
            strategy: meter.strategy,
            interval: interval,
            bandwidth: bandwidth,
            present: meter.present,
            mappings: meter.mappings.count
        )
        write(renderer.beginning(subject))
        var summary = WriteSummary()
        let (ending, failure) = try measure(meter, watch, subject, &summary)
        meter.end()
        if ending != .output { write(renderer.end(ending, summary, of: subject)) }
        if let failure { throw failure }
        if case .process(let words) = ending, summary.count == 0 { throw SessionFailure(.notFound, words) }
    }

    private func begin() throws(SessionFailure) -> WriteMeter {
        do throws(TrackingError) {
            let support = TrackerSupport.probe()
            let strategy = try support.strategy(for: choice)
            // Somebody who wants to know how much is written is not helped by an answer that says everything is.
            if choice == .auto, strategy == .none { _ = try support.strategy(for: .writeProtectAsync) }
            return try WriteMeter(pid, strategy: strategy, timeout: Self.stopTimeout)
        } catch {
            throw SessionFailure(error)
        }
    }

    /// All rounds.
    private func measure(
        _ meter: WriteMeter,
        _ watch: TrackWatch,
        _ subject: TrackSubject,
        _ summary: inout WriteSummary
    ) throws(SessionFailure) -> (TrackEnding, SessionFailure?) {
        var next = MonotonicTime.now
        while rounds.map({ summary.count < $0 }) ?? true {
            next = Self.moment(after: next, interval)
            switch try watch.wait(until: .after(next - .now)) {
            case .timeout: break
            case .signal(let signal): return (.signal(signal), nil)
            case .outputClosed: return (.output, nil)
            case .processEnded: return (.process("process \(pid) has ended"), nil)
            }
            do throws(TrackingError) {
                let measurement = try meter.measure()
                summary.add(measurement)
                write(renderer.round(measurement, of: subject))
            } catch {
                if error.code == .noSuchProcess { return (.process(error.message), nil) }
                let failure = SessionFailure(error)
                return (.failure(failure.message), failure)
            }
        }
        return (.rounds, nil)
    }

    /// The next moment for a look; looks that are late are left out.
    private static func moment(after last: MonotonicTime, _ interval: Duration) -> MonotonicTime {
        let step = UInt64(max(1, interval / .nanoseconds(1)))
        let now = MonotonicTime.now.nanoseconds
        let missed = now > last.nanoseconds ? (now - last.nanoseconds) / step : 0
        return MonotonicTime(nanoseconds: last.nanoseconds + (missed + 1) * step)
    }
}
