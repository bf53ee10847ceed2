// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
public import Paging
public import ProcessTrace

/// Knows which pages of a running process were written.
///
/// Any thread may use it, one at a time. A method that throws has ended the tracking.
public final class WriteTracker: Sendable {
    /// How writes are noticed.
    public let strategy: TrackerStrategy
    /// Whose writes.
    public let pid: Int32

    private enum State: ~Copyable {
        case writeProtect(WriteProtectRounds)
        case softDirty(SoftDirtyRounds<SoftDirtyTarget>)
        case nothing
        case ended
    }

    private let state: Lock<State>

    private init(_ pid: Int32, _ strategy: TrackerStrategy, _ state: consuming sending State) {
        self.pid = pid
        self.strategy = strategy
        self.state = Lock(state)
    }

    deinit {
        end()
    }

    /// Begins to track a process.
    ///
    /// The process is stopped for about a millisecond, in which a userfaultfd is made inside of it by one injected call, taken out
    /// and closed there. It runs when this returns; its mappings are registered but nothing is armed before the first round.
    ///
    /// - Parameters:
    ///   - pid: the process as this program sees it.
    ///   - strategy: one that ``TrackerSupport`` calls available.
    ///   - scope: which mappings.
    ///   - timeout: how long stopping all threads may take.
    /// - Throws: ``TrackingError``; the process runs on as if nothing had happened.
    public static func begin(
        _ pid: Int32,
        strategy: TrackerStrategy,
        scope: TrackingScope,
        timeout: Duration
    ) throws(TrackingError) -> WriteTracker {
        try begin(pid, strategy, scope, timeout, .shortest(strategy))
    }

    /// As ``begin(_:strategy:scope:timeout:)``, looking at pages in a certain way.
    static func begin(
        _ pid: Int32,
        _ strategy: TrackerStrategy,
        _ scope: TrackingScope,
        _ timeout: Duration,
        _ looking: Looking
    ) throws(TrackingError) -> WriteTracker {
        switch strategy {
        case .writeProtectAsync, .writeProtectSync:
            let rounds = try WriteProtectRounds.begin(pid, strategy, scope, timeout, looking)
            return WriteTracker(pid, strategy, .writeProtect(rounds))
        case .softDirty:
            let target = try SoftDirtyTarget(pid, scope, timeout)
            return WriteTracker(pid, strategy, .softDirty(SoftDirtyRounds(target)))
        case .none:
            return WriteTracker(pid, strategy, .nothing)
        }
    }

    /// Looks at the running process: what was written, made or thrown away since the last round.
    ///
    /// The first round reports all pages with data. With ``TrackerStrategy/none`` every round is empty: nothing is known.
    ///
    /// - Throws: ``TrackingError``; with code `refused` when a mapping has come to belong to another userfaultfd, with
    ///   `noSuchProcess` when the process has ended or executed another program. The tracking has ended then.
    public func round() throws(TrackingError) -> TrackerRound {
        try use(
            { (rounds) throws(TrackingError) in try rounds.round() },
            { (rounds) throws(TrackingError) in try rounds.round() }
        )
    }

    /// Looks at the process while all its threads are stopped; arms nothing.
    ///
    /// Every page that a round has reported, that no later round has dropped, and that is neither dropped nor written here, holds what
    /// it held when it was read after the round that reported it last.
    ///
    /// - Parameter mappings: `/proc/PID/maps` as it is now, when the caller has read it; ``TrackerRound/mappings`` stays empty.
    /// - Throws: ``TrackingError``. The tracking has ended then.
    public func finalRound(mappings: [MapEntry]? = nil) throws(TrackingError) -> TrackerRound {
        try use(
            { (rounds) throws(TrackingError) in try rounds.finalRound(mappings) },
            { (rounds) throws(TrackingError) in
                try rounds.finalRound(
                    mappings.map { TrackedMappings($0, scope: rounds.process.scope, joinsGaps: false) }
                )
            }
        )
    }

    /// Whether the write protection (`uw` in VmFlags) of a mapping is that of this tracker.
    public func owns(_ range: AddressRange) -> Bool {
        state.withLock { state in
            switch state {
            case .writeProtect(let rounds): rounds.owns(range)
            case .softDirty: false
            case .nothing: false
            case .ended: false
            }
        }
    }

    /// Whether mappings in ranges of a stopped process belong to another userfaultfd, found without walking page tables.
    ///
    /// - Parameter ranges: each ends with a mapping that cannot be registered, so that nothing is.
    /// - Returns: nil when this tracker cannot tell.
    public func contests(_ ranges: [AddressRange]) -> Bool? {
        state.withLock { state in
            switch state {
            case .writeProtect(let rounds): rounds.contests(ranges)
            case .softDirty: nil
            case .nothing: nil
            case .ended: nil
            }
        }
    }

    /// Takes everything out of the process; may be called again.
    public func end() {
        state.withLock { state in
            switch consume state {
            case .writeProtect(let rounds): rounds.unregisterAll()
            case .softDirty: break
            case .nothing: break
            case .ended: break
            }
            state = .ended
        }
    }

    private func use(
        _ body: (inout WriteProtectRounds) throws(TrackingError) -> TrackerRound,
        _ softDirty: (inout SoftDirtyRounds<SoftDirtyTarget>) throws(TrackingError) -> TrackerRound
    ) throws(TrackingError) -> TrackerRound {
        try state.withLock { (state) throws(TrackingError) -> TrackerRound in
            switch consume state {
            case .writeProtect(var rounds):
                // Ended, should the body throw: closing takes everything out of the process.
                state = .ended
                let round = try body(&rounds)
                state = .writeProtect(rounds)
                return round
            case .softDirty(var rounds):
                state = .ended
                let round = try softDirty(&rounds)
                state = .softDirty(rounds)
                return round
            case .nothing:
                state = .nothing
                return TrackerRound()
            case .ended:
                state = .ended
                throw TrackingError(.systemCall, "the writes of process \(pid) are not tracked any more")
            }
        }
    }
}
