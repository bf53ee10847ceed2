// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import Reporting

/// That a connection of the session does not go on.
struct Loss: Sendable {
    /// Why.
    var failure: SessionFailure
    /// Whether new connections would not help: one side is broken, or has broken the rules, or has given up.
    var isFinal: Bool
    /// Whether pages came that are not those that the source has read.
    var isCorruption = false

    init(_ failure: SessionFailure, isFinal: Bool) {
        self.failure = failure
        self.isFinal = isFinal
    }

    /// What a page connection that does not go on means.
    init(of connection: String, _ error: any Error) {
        failure = SessionFailure(losing: connection, error)
        isFinal = (error as? ChannelError)?.endsTheSession ?? true
        if case .corrupted? = error as? ChannelError { isCorruption = true }
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
        // Pages that changed on the way are asked for again.
        case .closed, .cut, .timedOut, .stopped, .corrupted, .tls, .system: false
        case .wire, .unexpected, .refused, .aborted: true
        }
    }
}
