// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem
public import PageWire
public import Paging
public import Reporting
public import TLSSession

/// Why frames do not come or go any more.
public enum ChannelError: Error, Sendable, CustomStringConvertible {
    /// The peer ended the connection in order. Never success by itself: that takes a COMPLETE.
    case closed
    /// The connection ended inside of a frame.
    case cut
    /// Nothing came, or nothing could be sent, until the deadline.
    case timedOut
    /// This side wants to end.
    case stopped
    /// The peer broke the page protocol.
    case wire(WireError)
    /// The contents of pages are not those that the source has read: their digest differs.
    case corrupted(PageRun)
    /// The connection, or the peer's certificate.
    case tls(TLSError)
    /// The peer turned this connection away; the code is an exit code.
    case refused(code: UInt16, text: String)
    /// The peer gave the session up; the code is an exit code.
    case aborted(code: UInt16, text: String)
    /// A frame that may not come now.
    case unexpected(FrameKind)
    /// A system call that should not have failed.
    case system(SystemCallError)

    /// One clause.
    public var description: String {
        switch self {
        case .closed: "the peer ended the connection"
        case .cut: "the connection was cut inside of a frame"
        case .timedOut: "the peer did not answer in time"
        case .stopped: "this side was asked to end"
        case .wire(let error): error.description
        case .corrupted(let run):
            "the contents of \(run) changed on the way from the source (digest); none of it was used"
        case .tls(let error): error.description
        case .refused(_, let text): "the peer refused: \(text)"
        case .aborted(_, let text): "the peer gave up: \(text)"
        case .unexpected(let kind): "the peer broke the page protocol: \(kind) at the wrong time"
        case .system(let error): error.description
        }
    }

    /// The exit code of a command that ends because of this before the grant, when everything has been undone.
    public var exitCode: ExitCode {
        switch self {
        case .closed, .cut, .timedOut, .stopped, .corrupted: .tryAgain
        case .wire, .unexpected: .peer
        case .tls(let error): ExitCode(rawValue: error.exitCode) ?? .peer
        case .refused(let code, _), .aborted(let code, _): Self.exitCode(said: code)
        case .system: .systemCall
        }
    }

    /// The peer's word about itself as our exit code; what is no failure of a peer, or unknown, means to try again.
    private static func exitCode(said code: UInt16) -> ExitCode {
        switch ExitCode(rawValue: Int32(code)) {
        case .peer?: .peer
        case .refused?: .refused
        case .unavailable?: .unavailable
        case .notFound?: .notFound
        default: .tryAgain
        }
    }
}

extension ChannelError {
    /// What a failed write means.
    init(sending error: TLSError) {
        switch error.code {
        case .closed: self = .closed
        case .timedOut: self = .timedOut
        case .interrupted: self = .stopped
        default: self = .tls(error)
        }
    }
}
