// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import Reporting

/// That a connection of the session does not go on.
struct Loss: Sendable {
    /// Why.
    var failure: SessionFailure
    /// Whether new connections would not help: one side is broken, or has broken the rules, or has given up.
    var isFinal: Bool

    init(_ failure: SessionFailure, isFinal: Bool) {
        self.failure = failure
        self.isFinal = isFinal
    }

    /// What a page connection that does not go on means.
    init(of connection: String, _ error: any Error) {
        failure = SessionFailure(losing: connection, error)
        isFinal = (error as? ChannelError)?.endsTheSession ?? true
    }

    /// What a control connection that does not go on means.
    init(ofControl error: ChannelError) {
        failure = SessionFailure(error.exitCode, "the control connection was lost: \(error)")
        isFinal = error.endsTheSession
    }
}

extension ChannelError {
    /// Whether the session could not be taken up over another connection.
    var endsTheSession: Bool {
        switch self {
        case .closed, .cut, .timedOut, .stopped, .tls, .system: false
        case .wire, .unexpected, .refused, .aborted: true
        }
    }
}
