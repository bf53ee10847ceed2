// SPDX-License-Identifier: Apache-2.0
public import DirtyTracking
public import FrameTransport

/// What becomes of the source process after an acknowledged COMPLETE (`--on-complete`).
public enum CompletionAction: String, Sendable, CaseIterable {
    /// It is killed.
    case kill
    /// It stays stopped by SIGSTOP.
    case stop
    /// It goes on: the restored process is a clone.
    case `continue`
}

/// What `thaw page-server` was asked to do.
public struct PageServerOptions: Sendable {
    /// The process to move, as this command sees it.
    public var pid: Int32
    /// Where to listen.
    public var address = "127.0.0.1"
    /// The TCP port; 0 takes a free one, which the status line `listening` names.
    public var port: UInt16 = 0
    /// Certificates and key of this side.
    public var tls = TLSLocation()
    /// DNS names and URIs of the peers that are served; empty for any peer that the authority has certified.
    public var allow: [String] = []
    /// What becomes of the process in the end.
    public var onComplete = CompletionAction.kill
    /// Whether a destination may fetch pages while the process runs.
    public var preCopy = true
    /// How writes are noticed meanwhile.
    public var tracker = TrackerChoice.auto
    /// How long a granted session waits for its destination to come back; nil for ever.
    public var hold: Duration?
    /// The folder in which the session is recorded for `thaw status` and `thaw settle`; nil for no record.
    public var record: String?
    /// How long an acknowledged session answers a destination that has not heard of it.
    public var linger = Duration.seconds(10)
    /// How long stopping all threads may take before the process is let go.
    public var freezeTimeout = Duration.seconds(10)
    /// How long an authorised destination may take from its description to its request for the grant.
    public var buildTimeout = Duration.seconds(120)

    /// How long a fault thread looks for the next request before it sleeps; nil for what suits the number of CPUs.
    public var spin: Duration?

    /// Defaults for one process.
    public init(pid: Int32) {
        self.pid = pid
    }
}
