// SPDX-License-Identifier: Apache-2.0

/// Finds out when the sleeps of stopped threads would have ended.
///
/// The kernel keeps the deadline of an interrupted sleep where nobody can read it. Its timer was in `/proc/timer_list` before the
/// stop and is gone behind it, but the list does not say whose it was. For a sleep whose beginning is known the timer nearest to
/// beginning plus time-out is taken. A sleep that had been interrupted before began at an unknown time; one of the timers that
/// are left over is its own. So it is when no timer fits a call that may have been made with less than its time-out.
enum SleepDeadlines {
    /// A thread that slept in a call with a relative time-out.
    ///
    /// Times are of CLOCK_MONOTONIC, in nanoseconds.
    struct Sleeper: Hashable {
        let tid: Int32
        /// When it was last seen to fall asleep.
        let since: Int64
        /// The time-out of the call.
        let requested: Int64
        /// Whether the sleep had been interrupted before.
        let isRestarted: Bool
        /// Whether the call may have been made with less than `requested`: a ``TimedCall`` that has been stopped before.
        var mayBeShorter = false

        /// When it ends, or ends at the latest.
        var expected: Int64 { since.addingReportingOverflow(requested).overflow ? .max : since + requested }
    }

    /// How far the scheduler's clock may be off, besides a fiftieth of the time that has passed (time that a hypervisor takes).
    static let tolerance: Int64 = 2_000_000

    /// Deadlines by thread; threads for which no timer fits are left out.
    ///
    /// - Parameters:
    ///   - timers: deadlines of the timers that the stop has ended.
    ///   - now: when the threads were stopped.
    static func match(_ sleepers: [Sleeper], timers: [Int64], now: Int64) -> [Int32: Int64] {
        var left = timers.filter { $0 >= now - tolerance }.sorted()
        var deadlines: [Int32: Int64] = [:]
        let fresh = sleepers.filter { !$0.isRestarted }
        // The best pair first, so that neighbours do not take each other's timers.
        var pairs: [(distance: Int64, sleeper: Sleeper, timer: Int64)] = []
        for sleeper in fresh {
            let limit = tolerance + max(0, now - sleeper.since) / 50
            for timer in left {
                let (difference, overflow) = timer.subtractingReportingOverflow(sleeper.expected)
                guard !overflow, difference.magnitude <= limit.magnitude else { continue }
                pairs.append((Int64(difference.magnitude), sleeper, timer))
            }
        }
        pairs.sort { ($0.distance, $0.sleeper.tid) < ($1.distance, $1.sleeper.tid) }
        for pair in pairs where deadlines[pair.sleeper.tid] == nil {
            guard let index = left.firstIndex(of: pair.timer) else { continue }
            left.remove(at: index)
            deadlines[pair.sleeper.tid] = pair.timer
        }
        let shorter = choose(for: fresh.filter { $0.mayBeShorter && deadlines[$0.tid] == nil }, from: &left)
        deadlines.merge(shorter) { known, _ in known }
        // Restarted sleeps end before a fresh one of the same time-out would; the tightest bound chooses first.
        for sleeper in sleepers.filter(\.isRestarted).sorted(by: { ($0.expected, $0.tid) < ($1.expected, $1.tid) }) {
            let bound = sleeper.expected == .max ? .max : sleeper.expected + tolerance
            guard let index = left.lastIndex(where: { $0 <= bound }) else { continue }
            deadlines[sleeper.tid] = left.remove(at: index)
        }
        return deadlines
    }

    /// The last timer that each may have; two may get the same one, since a call may return late but not early.
    private static func choose(for sleepers: [Sleeper], from left: inout [Int64]) -> [Int32: Int64] {
        var deadlines: [Int32: Int64] = [:]
        for sleeper in sleepers where sleeper.expected != .max {
            deadlines[sleeper.tid] = left.last { $0 <= sleeper.expected + tolerance }
        }
        left.removeAll { deadlines.values.contains($0) }
        return deadlines
    }
}
