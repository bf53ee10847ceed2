// SPDX-License-Identifier: Apache-2.0

/// Promises 1, 2 and 3 on the side of the destination, in one place.
///
/// *At most one running copy*: the threads are let go only by ``GrantAction/release``, after one GRANT; whatever goes wrong
/// before that destroys the copy, but a lost connection behind BUILT, where the grant may be on its way: then the copy stays
/// built and stopped, and the destination asks again. *Never a wrong page*: after the grant no event takes the page service
/// away while pages are owed. *Nothing freed early*: only ACKNOWLEDGED leads to ``State/acknowledged``.
///
/// | state | goes on by | a lost connection | any other break |
/// |---|---|---|---|
/// | building | built | destroy the copy | destroy the copy |
/// | awaitingGrant | GRANT | reconnect, ask again | destroy the copy |
/// | releasing | released | reconnect | destroy the copy (the source stays frozen) |
/// | draining | became resident | reconnect, go on | keep serving what is there |
/// | completing | ACKNOWLEDGED | reconnect, say it again | runs on, not acknowledged |
/// | acknowledged | | nothing is owed | nothing is owed |
///
/// Events are methods in the past tense; each returns what the driver has to do. The machine does no I/O and knows no
/// time.
public struct DestinationCommit: ~Copyable {
    /// Where the session stands.
    public enum State: Hashable, Sendable {
        /// Description and eager pages arrive, the copy is built. To `awaitingGrant`, or to `ended` on everything that
        /// goes wrong.
        case building
        /// The copy stands still, every lazy mapping is registered, BUILT was sent. To `releasing` by a GRANT, or to
        /// `ended`.
        case awaitingGrant
        /// The driver lets the threads go. To `draining`, or to `ended` when that failed before any thread ran.
        case releasing
        /// The copy runs and pages are owed. To `completing` when none is any more.
        case draining
        /// Every page is installed, COMPLETE was sent. To `acknowledged` only by the source's word.
        case completing
        /// Both sides are done. Final.
        case acknowledged
        /// The copy was destroyed before it ran. Final.
        case ended
    }

    /// What becomes of the copy when a session breaks.
    public enum Resolution: Hashable, Sendable {
        /// No thread of the copy has run: destroy all of it, tell the source to abort if it can still be told, close.
        case destroyCopy
        /// Keep everything as it is and take the session up again; then ask ``DestinationCommit/resumed()``.
        case reconnect
        /// The copy runs and lacks pages: threads that need one wait. Never unregister, never close the last
        /// userfaultfd; follow the policy on loss.
        case keepServing
        /// The copy has all its pages and runs on; only the acknowledgement is missing, so the source may keep its frozen
        /// process.
        case runOnUnacknowledged
        /// Nothing is owed by anybody: nothing has to be done.
        case none
    }

    /// What to do when the copy is built.
    public enum BuiltAction: Hashable, Sendable {
        /// Send BUILT and wait for the grant.
        case sendBuilt
        /// The session ended meanwhile: do this to the copy.
        case withhold(Resolution)
    }

    /// What to do about a GRANT.
    public enum GrantAction: Hashable, Sendable {
        /// Set the guard ranges up and let the threads go; then report ``DestinationCommit/released()``, or
        /// ``DestinationCommit/failed()`` when no thread has run.
        case release
        /// It may not come now: abort the session with a protocol error and do this to the copy.
        case violation(Resolution)
    }

    /// What to do when the threads run.
    public enum ReleasedAction: Hashable, Sendable {
        /// Send RUNNING.
        case sendRunning
        /// A bug of the driver: there was nothing to release. Do this to the copy.
        case withhold(Resolution)
    }

    /// What to do when every page is there.
    public enum ResidentAction: Hashable, Sendable {
        /// Send COMPLETE with this tally and wait for the acknowledgement.
        case sendComplete(PageTally)
        /// Pages cannot be complete now: do this to the copy.
        case withhold(Resolution)
    }

    /// What to do about an ACKNOWLEDGED.
    public enum AcknowledgedAction: Hashable, Sendable {
        /// Unregister, close the userfaultfd and the connections: the restore is done.
        case finish
        /// It may not come now: abort the session with a protocol error and do this to the copy.
        case violation(Resolution)
    }

    /// What to say on a control connection that has taken the session up again.
    public enum ResumedAction: Hashable, Sendable {
        /// BUILT: the grant may have been lost.
        case sendBuilt
        /// Nothing: RUNNING follows.
        case wait
        /// RUNNING: it may have been lost.
        case sendRunning
        /// COMPLETE with this tally: it, or its acknowledgement, may have been lost.
        case sendComplete(PageTally)
        /// There is no session that could go on: do this to the copy.
        case withhold(Resolution)
    }

    /// Where the session stands.
    public private(set) var state = State.building
    private var tally: PageTally?

    /// A session in which the description has been asked for.
    public init() {}

    /// The copy stands still and every lazy mapping is registered.
    public mutating func built() -> BuiltAction {
        switch state {
        case .building:
            state = .awaitingGrant
            return .sendBuilt
        case .awaitingGrant, .releasing, .draining, .completing, .acknowledged, .ended:
            return .withhold(resolve())
        }
    }

    /// GRANT arrived.
    public mutating func grantArrived() -> GrantAction {
        switch state {
        case .awaitingGrant:
            state = .releasing
            return .release
        case .building, .releasing, .draining, .completing, .acknowledged, .ended:
            return .violation(resolve())
        }
    }

    /// At least one thread of the copy runs.
    public mutating func released() -> ReleasedAction {
        switch state {
        case .releasing:
            state = .draining
            return .sendRunning
        case .building, .awaitingGrant, .draining, .completing, .acknowledged, .ended:
            return .withhold(resolve())
        }
    }

    /// Every page of the page map has arrived and none is owed to any address space.
    public mutating func becameResident(_ tally: PageTally) -> ResidentAction {
        switch state {
        case .draining:
            state = .completing
            self.tally = tally
            return .sendComplete(tally)
        case .building, .awaitingGrant, .releasing, .completing, .acknowledged, .ended:
            return .withhold(resolve())
        }
    }

    /// ACKNOWLEDGED arrived.
    public mutating func acknowledgementArrived() -> AcknowledgedAction {
        switch state {
        case .completing:
            state = .acknowledged
            return .finish
        case .building, .awaitingGrant, .releasing, .draining, .acknowledged, .ended:
            return .violation(resolve())
        }
    }

    /// A connection ended: end of file, reset, time-out, a TLS alert.
    ///
    /// None of them ever is success, and none tells what the source has decided.
    public mutating func connectionLost() -> Resolution {
        switch state {
        case .awaitingGrant, .releasing, .draining, .completing: .reconnect
        case .building, .acknowledged, .ended: resolve()
        }
    }

    /// The session was taken up again over new connections.
    public mutating func resumed() -> ResumedAction {
        switch state {
        case .awaitingGrant: return .sendBuilt
        case .releasing: return .wait
        case .draining: return .sendRunning
        case .completing:
            guard let tally else { preconditionFailure("DestinationCommit: completing without a tally") }
            return .sendComplete(tally)
        case .building, .acknowledged, .ended: return .withhold(resolve())
        }
    }

    /// Nobody tries to reconnect any more: the source has no such session, or it took too long.
    public mutating func gaveUpReconnecting() -> Resolution {
        resolve()
    }

    /// ABORT arrived.
    public mutating func abortArrived() -> Resolution {
        resolve()
    }

    /// The peer broke the protocol.
    public mutating func violated() -> Resolution {
        resolve()
    }

    /// Something failed on this side.
    public mutating func failed() -> Resolution {
        resolve()
    }

    /// The operator asked this program to end.
    public mutating func stopRequested() -> Resolution {
        resolve()
    }

    /// The one rule about sessions that do not go on.
    private mutating func resolve() -> Resolution {
        switch state {
        case .building, .awaitingGrant, .releasing:
            state = .ended
            return .destroyCopy
        case .draining:
            return .keepServing
        case .completing:
            return .runOnUnacknowledged
        case .acknowledged, .ended:
            return .none
        }
    }
}
