// SPDX-License-Identifier: Apache-2.0

/// Promises 2 and 3 on the side of the source, in one place.
///
/// *At most one running copy*: from ``State/granted`` on no event leads to ``Resolution/thaw``, and the grant is sent only
/// after that has been entered. *Nothing freed early*: the process is disposed of behind one event only, a COMPLETE whose
/// count and digest equal those of this side. End of file, resets, aborts and time-outs never do.
///
/// From the grant on the destination may lose its connections and come back: what it says again because it does not know
/// whether it was heard is answered again and changes nothing.
///
/// | state | goes on by | a break of any kind |
/// |---|---|---|
/// | waiting | DESCRIBE | the process runs, nothing to undo |
/// | frozen | BUILT | thaw |
/// | recording | grant recorded | thaw |
/// | granted | RUNNING, or COMPLETE, equal | stay frozen, keep the pages, wait for the destination |
/// | running | COMPLETE, equal | the same |
/// | completed | | nothing: the process was disposed of |
///
/// Events are methods in the past tense; each returns what the driver has to do. The machine does no I/O and knows no
/// time.
public struct SourceCommit: ~Copyable {
    /// Where the session stands.
    public enum State: Hashable, Sendable {
        /// The process runs; nothing has been altered. To `frozen` when the destination asks for the description, to
        /// `ended` when it goes away.
        case waiting
        /// The process is frozen and described. To `recording` when the destination has built its copy, to `ended`
        /// (thawed) on everything that goes wrong.
        case frozen
        /// The driver makes it impossible that the process runs on by itself. To `granted` when that is done, to
        /// `ended` (thawed) when it failed. The grant has not been sent.
        case recording
        /// The grant is recorded and may be anywhere between here and the destination: the process never runs here
        /// again by itself. To `running` by RUNNING, to `completed` by an equal COMPLETE, else it stays; BUILT, said again,
        /// is answered by the grant again.
        case granted
        /// The destination has let its threads go. To `completed` by an equal COMPLETE, else it stays.
        case running
        /// The destination has every page. Final; the COMPLETE, said again, is acknowledged again.
        case completed
        /// Over before the grant; the process runs on. Final.
        case ended
    }

    /// What becomes of the process when a session breaks.
    public enum Resolution: Hashable, Sendable {
        /// Nothing was altered and nothing has to be done to the process. Close the session.
        case leaveRunning
        /// Undo the freeze so that the process runs on as if nothing had happened, tell the destination to abort if it
        /// can still be told, close the session.
        case thaw
        /// The copy may be running: keep the process frozen and its pages at hand, whatever happens to the connection.
        case stayFrozen
        /// The destination has everything, and the process has been disposed of: nothing is left to do.
        case none
    }

    /// What to do when the destination asked for the description.
    public enum DescribeAction: Hashable, Sendable {
        /// Freeze the process and send description and eager pages. Report ``SourceCommit/failed()`` when that fails.
        case freeze
        /// It may not ask now: abort the session with a protocol error and do this to the process.
        case violation(Resolution)
    }

    /// What to do when the destination has built its copy.
    public enum BuiltAction: Hashable, Sendable {
        /// Make sure that the process can never run on by itself, even if this program dies; then report
        /// ``SourceCommit/grantRecorded()``, or ``SourceCommit/failed()``. Do not send the grant yet.
        case recordGrant
        /// It was granted and has not run, and does not know: send the grant again.
        case repeatGrant
        /// It may not say so now: abort the session with a protocol error and do this to the process.
        case violation(Resolution)
    }

    /// What to do with the grant.
    public enum GrantAction: Hashable, Sendable {
        /// Send it now. An error while sending is ``SourceCommit/connectionLost()``.
        case sendGrant
        /// The session ended meanwhile: send nothing and do this to the process.
        case withhold(Resolution)
    }

    /// What to do when the destination says that its threads run.
    public enum RunningAction: Hashable, Sendable {
        /// Tell the operator.
        case reportRunning
        /// It has said so before: nothing.
        case ignore
        /// It may not say so now: abort the session with a protocol error and do this to the process.
        case violation(Resolution)
    }

    /// Why a COMPLETE was not accepted.
    public enum Mismatch: Hashable, Sendable, CustomStringConvertible {
        /// Not every existing page has been handed to the connection.
        case notAllServed(served: UInt64, existing: UInt64)
        /// The destination counted another number of pages.
        case count(claimed: UInt64, served: UInt64)
        /// The destination got other bytes.
        case digest(claimed: String, served: String)

        /// One clause.
        public var description: String {
            switch self {
            case .notAllServed(let served, let existing):
                "the destination claims to be complete, but \(served) of \(existing) pages were sent"
            case .count(let claimed, let served):
                "the destination counted \(claimed) pages where \(served) were sent"
            case .digest(let claimed, let served):
                "the destination's digest is \(claimed) where \(served) was sent"
            }
        }
    }

    /// What to do about a COMPLETE.
    public enum CompleteAction: Hashable, Sendable {
        /// Send the acknowledgement, then dispose of the process. An error while sending changes nothing: the
        /// destination has everything.
        case acknowledgeAndDispose
        /// It was acknowledged before: send the acknowledgement again, and nothing else.
        case acknowledgeAgain
        /// Free nothing. Abort the session, naming the mismatch; the process stays frozen.
        case reject(Mismatch)
        /// It may not say so now: abort the session with a protocol error and do this to the process.
        case violation(Resolution)
    }

    /// Where the session stands.
    public private(set) var state = State.waiting

    /// A session whose process has been examined and runs.
    public init() {}

    /// DESCRIBE arrived.
    public mutating func descriptionRequested() -> DescribeAction {
        switch state {
        case .waiting:
            state = .frozen
            return .freeze
        case .frozen, .recording, .granted, .running, .completed, .ended:
            return .violation(resolve())
        }
    }

    /// BUILT arrived.
    public mutating func builtArrived() -> BuiltAction {
        switch state {
        case .frozen:
            state = .recording
            return .recordGrant
        case .granted:
            return .repeatGrant
        case .waiting, .recording, .running, .completed, .ended:
            return .violation(resolve())
        }
    }

    /// The driver has made it impossible that the process runs on by itself.
    ///
    /// From here on no event thaws.
    public mutating func grantRecorded() -> GrantAction {
        switch state {
        case .recording:
            state = .granted
            return .sendGrant
        case .waiting, .frozen, .granted, .running, .completed, .ended:
            return .withhold(resolve())
        }
    }

    /// RUNNING arrived.
    public mutating func runningArrived() -> RunningAction {
        switch state {
        case .granted:
            state = .running
            return .reportRunning
        case .running:
            return .ignore
        case .waiting, .frozen, .recording, .completed, .ended:
            return .violation(resolve())
        }
    }

    /// COMPLETE arrived.
    ///
    /// - Parameters:
    ///   - claim: What the destination counted.
    ///   - served: What this side sent, each page once.
    ///   - existing: Pages of the page map.
    /// - Returns: What to do; disposing of the process is among it only here.
    public mutating func completeArrived(_ claim: PageTally, served: PageTally, existing: UInt64) -> CompleteAction {
        switch state {
        case .granted, .running:
            guard served.pages == existing else {
                return .reject(.notAllServed(served: served.pages, existing: existing))
            }
            guard claim.pages == served.pages else {
                return .reject(.count(claimed: claim.pages, served: served.pages))
            }
            guard claim == served else {
                return .reject(.digest(claimed: claim.digest, served: served.digest))
            }
            state = .completed
            return .acknowledgeAndDispose
        case .completed where claim == served:
            return .acknowledgeAgain
        case .waiting, .frozen, .recording, .completed, .ended:
            return .violation(resolve())
        }
    }

    /// The control connection ended: end of file, reset, time-out, a TLS alert.
    ///
    /// None of them ever is success.
    public mutating func connectionLost() -> Resolution {
        resolve()
    }

    /// ABORT arrived.
    ///
    /// After the grant not even that thaws: the copy may have run.
    public mutating func abortArrived() -> Resolution {
        resolve()
    }

    /// The peer broke the protocol.
    public mutating func violated() -> Resolution {
        resolve()
    }

    /// Something failed on this side: the freeze, the description, the recording of the grant.
    public mutating func failed() -> Resolution {
        resolve()
    }

    /// The operator asked this program to end.
    public mutating func stopRequested() -> Resolution {
        resolve()
    }

    /// The one rule about broken sessions.
    private mutating func resolve() -> Resolution {
        switch state {
        case .waiting:
            state = .ended
            return .leaveRunning
        case .frozen, .recording:
            state = .ended
            return .thaw
        case .granted, .running:
            return .stayFrozen
        case .completed:
            return .none
        case .ended:
            return .leaveRunning
        }
    }
}
