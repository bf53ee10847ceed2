// SPDX-License-Identifier: Apache-2.0
internal import Checkpoint
internal import DirtyTracking
internal import PageWire
internal import Paging
internal import Reporting

/// The tracker of a running process of this machine, by way of DirtyTracking.
final class ProcessTracker: SourceTracker {
    private let tracker: WriteTracker
    let memory: any SourceMemory

    /// Arms nothing yet, but the process is stopped for a moment.
    init(of source: PageSource, _ strategy: TrackerStrategy, timeout: Duration) throws(TrackingError) {
        tracker = try WriteTracker.begin(source.pid, strategy: strategy, scope: .privateAnonymous, timeout: timeout)
        memory = CheckpointedMemory(source: source)
    }

    var kind: TrackerKind {
        switch tracker.strategy {
        case .writeProtectAsync: .writeProtectAsync
        case .writeProtectSync: .writeProtectSync
        case .softDirty: .softDirty
        case .none: .none
        }
    }

    /// What tells its registrations from those of others; nil when it has none.
    var registrations: TrackerRegistrations? {
        let tracker = tracker
        switch tracker.strategy {
        case .writeProtectAsync, .writeProtectSync:
            return TrackerRegistrations(owns: { tracker.owns($0) }, areContested: { tracker.contests($0) })
        case .softDirty, .none: return nil
        }
    }

    func round() throws(SessionFailure) -> SourceRound {
        do throws(TrackingError) {
            return SourceRound(try tracker.round())
        } catch {
            throw SessionFailure(error)
        }
    }

    func finalRound() throws(SessionFailure) -> SourceRound {
        do throws(TrackingError) {
            return SourceRound(try tracker.finalRound())
        } catch {
            throw SessionFailure(error)
        }
    }

    func end() { tracker.end() }
}

extension SourceRound {
    fileprivate init(_ round: TrackerRound) {
        self.init(written: round.written, dropped: round.dropped)
    }
}

extension SessionFailure {
    /// A failure of DirtyTracking.
    init(_ error: TrackingError) {
        self.init(ExitCode(rawValue: error.code.rawValue) ?? .bug, error.description)
    }
}
