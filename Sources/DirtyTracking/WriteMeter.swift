// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging

/// Measures how much a running process writes, from one look at it to the next.
///
/// Any thread may use it, one at a time. What throws has ended the tracking, and so does dropping the meter.
public final class WriteMeter {
    /// How writes are noticed; with ``TrackerStrategy/none`` all pages with data count as written.
    public let strategy: TrackerStrategy
    /// Pages with data at the last look.
    public private(set) var present: UInt64
    /// Mappings with data at the last look.
    public private(set) var mappings: [MappingWrites]

    private enum Source {
        case tracked(WriteTracker)
        case untracked(UntrackedRounds)

        func round() throws(TrackingError) -> TrackerRound {
            switch self {
            case .tracked(let tracker): try tracker.round()
            case .untracked(let rounds): try rounds.round()
            }
        }
    }

    private let source: Source
    private var number = 0
    /// The middle of the last look: pages are armed from its beginning to its end.
    private var looked: MonotonicTime

    /// Begins to track a process and looks at all its memory.
    ///
    /// - Parameters:
    ///   - pid: the process as this program sees it.
    ///   - strategy: one that ``TrackerSupport`` calls available.
    ///   - timeout: how long stopping all threads may take.
    /// - Throws: ``TrackingError``; the process runs on as if nothing had happened.
    public init(_ pid: Int32, strategy: TrackerStrategy, timeout: Duration) throws(TrackingError) {
        self.strategy = strategy
        source =
            strategy == .none
            ? .untracked(try UntrackedRounds(pid))
            : .tracked(try WriteTracker.begin(pid, strategy: strategy, scope: .all, timeout: timeout))
        let (round, moment) = try Self.look(source)
        looked = moment
        present = round.presentPages
        mappings = round.mappings
    }

    /// Looks again.
    ///
    /// - Throws: ``TrackingError``, as ``WriteTracker/round()``.
    public func measure() throws(TrackingError) -> WriteMeasurement {
        let (round, moment) = try Self.look(source)
        number += 1
        var measurement = WriteMeasurement()
        measurement.number = number
        measurement.duration = moment - looked
        measurement.written = round.written.count
        measurement.dropped = Self.gone(round)
        measurement.present = round.presentPages
        measurement.mappings = round.mappings
        measurement.scanTime = round.scanTime
        looked = moment
        present = round.presentPages
        mappings = round.mappings
        return measurement
    }

    /// Takes everything out of the process; may be called again.
    public func end() {
        if case .tracked(let tracker) = source { tracker.end() }
    }

    private static func look(_ source: Source) throws(TrackingError) -> (TrackerRound, MonotonicTime) {
        let began = MonotonicTime.now
        let round = try source.round()
        let half = (MonotonicTime.now.nanoseconds - began.nanoseconds) / 2
        return (round, MonotonicTime(nanoseconds: began.nanoseconds + half))
    }

    /// Pages that are dropped and not there again.
    private static func gone(_ round: TrackerRound) -> UInt64 {
        var gone = round.dropped
        gone.subtract(round.written)
        return gone.count
    }
}
