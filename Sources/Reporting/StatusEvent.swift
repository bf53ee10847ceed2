// SPDX-License-Identifier: Apache-2.0

/// A change of state that scripts may wait for (`--status-fd`).
public enum StatusEvent: Sendable, Equatable {
    /// The page server accepts connections on this port.
    case listening(port: UInt16)
    /// The named peer is connected and authorised.
    case connected(peer: String)
    /// A round of pre-copy has ended.
    case preCopy(round: Int, pages: UInt64)
    /// Every thread of the source process is stopped.
    case frozen
    /// The destination may let its copy run; the source never does again by itself.
    case granted
    /// The restored process runs; its pid as the command's caller sees it.
    case running(pid: Int32)
    /// The other side is gone; what was granted stays granted.
    case lost
    /// The other side is back.
    case resumed
    /// The restorer of this process had died, and another one has taken over.
    case tookOver(pid: Int32)
    /// Every page is installed.
    case resident
    /// Count and digest of the pages were equal on both sides.
    case complete(pages: UInt64, digest: String)
    /// The restored process has written so many pages since they arrived.
    case written(pages: UInt64)
    /// The restored process ended with this status (128 + signal for a signal).
    case exited(status: Int32)
    /// The command failed.
    case failed(code: Int32, message: String)

    /// The event as one JSON object; `time` is CLOCK_REALTIME.
    public func json(time: Duration) -> JSON {
        .object(members + [.init("time", .seconds(time))])
    }

    private var members: [JSON.Member] {
        switch self {
        case .listening(let port): Self.state("listening", .init("port", .unsigned(UInt64(port))))
        case .connected(let peer): Self.state("connected", .init("peer", .text(peer)))
        case .preCopy(let round, let pages):
            Self.state("pre-copy", .init("round", .integer(Int64(round))), .init("pages", .unsigned(pages)))
        case .frozen: Self.state("frozen")
        case .granted: Self.state("granted")
        case .running(let pid): Self.state("running", .init("pid", .integer(Int64(pid))))
        case .lost: Self.state("lost")
        case .resumed: Self.state("resumed")
        case .tookOver(let pid): Self.state("taken-over", .init("pid", .integer(Int64(pid))))
        case .resident: Self.state("resident")
        case .complete(let pages, let digest):
            Self.state("complete", .init("pages", .unsigned(pages)), .init("digest", .text(digest)))
        case .written(let pages): Self.state("written", .init("pages", .unsigned(pages)))
        case .exited(let status): Self.state("exited", .init("status", .integer(Int64(status))))
        case .failed(let code, let message):
            Self.state("failed", .init("code", .integer(Int64(code))), .init("message", .text(message)))
        }
    }

    private static func state(_ name: String, _ further: JSON.Member...) -> [JSON.Member] {
        [.init("state", .text(name))] + further
    }
}
