// SPDX-License-Identifier: Apache-2.0

/// Who belongs to the session: the rules by which a connection is let in, without any I/O.
///
/// A page server moves one process, so it has at most one session at a time. The session belongs to the peer whose certificate the
/// control connection showed; the other connections must show the same certificate and know the session's id, which is random and has
/// only been told to that peer inside of TLS. Whoever else comes is turned away and changes nothing.
struct SessionTable: Sendable {
    /// 32 random bytes.
    typealias Identifier = [UInt8]

    /// What is known about the other end of a connection after its handshake.
    struct Peer: Sendable, Equatable {
        /// For messages.
        var name: String
        /// SHA-256 of its certificate.
        var fingerprint: [UInt8]
    }

    /// What a connection is for.
    enum Purpose: Sendable, Equatable {
        case control
        case fault
        case bulk
    }

    /// Why a connection is turned away.
    enum Refusal: Error, Equatable {
        /// Another destination has the session.
        case busy
        /// There is no session with this id for this peer. Does not tell which of the two is wrong.
        case noSuchSession
        /// The session has as many connections of this purpose as it may have.
        case tooMany(Purpose)
        /// The session has been granted and its destination is gone; this page server cannot take it up again.
        case granted
        /// The page server is about to end.
        case closed
    }

    /// The most connections of one purpose besides the one of control.
    static let maximumConnections = 8

    private struct Session {
        var identifier: Identifier
        var peer: Peer
        var connections: [Purpose: Int] = [.control: 1]
        var isGranted = false
    }

    private var session: Session?
    private var isClosed = false

    /// The peer that the session belongs to.
    var owner: Peer? { session?.peer }

    /// A control connection wants to open a session under a fresh `identifier`.
    mutating func controlArrived(from peer: Peer, identifier: Identifier) throws(Refusal) {
        guard !isClosed else { throw .closed }
        if let session { throw session.isGranted && session.connections[.control] == 0 ? .granted : .busy }
        session = Session(identifier: identifier, peer: peer)
    }

    /// A fault or bulk connection wants to join the session `identifier`.
    mutating func connectionArrived(
        _ purpose: Purpose,
        from peer: Peer,
        identifier: Identifier
    ) throws(Refusal) {
        guard !isClosed else { throw .closed }
        guard var session, Self.areEqual(session.identifier, identifier),
            Self.areEqual(session.peer.fingerprint, peer.fingerprint)
        else { throw .noSuchSession }
        let count = session.connections[purpose, default: 0]
        guard purpose != .control, count < Self.maximumConnections else { throw .tooMany(purpose) }
        session.connections[purpose] = count + 1
        self.session = session
    }

    /// A connection of the session has ended.
    mutating func connectionEnded(_ purpose: Purpose) {
        session?.connections[purpose, default: 1] -= 1
    }

    /// The process runs at the destination from now on; the session never makes room for another one.
    mutating func granted() {
        session?.isGranted = true
    }

    /// The session ended before the process was frozen: another destination may come.
    mutating func sessionEnded() {
        guard session?.isGranted != true else { return }
        session = nil
    }

    /// Nobody is let in any more.
    mutating func close() {
        isClosed = true
    }

    /// Looks at every byte, whatever differs, so that the time it takes tells nothing.
    private static func areEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        guard left.count == right.count, !left.isEmpty else { return false }
        var difference: UInt8 = 0
        for index in left.indices { difference |= left[index] ^ right[index] }
        return difference == 0
    }
}
