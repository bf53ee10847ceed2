// SPDX-License-Identifier: Apache-2.0

/// Who belongs to the session: the rules by which a connection is let in, without any I/O.
///
/// A page server moves one process, so it has at most one session at a time. The session belongs to the peer whose certificate the
/// control connection showed; the other connections must show the same certificate and know the session's id, which is random and has
/// only been told to that peer inside of TLS. Whoever else comes is turned away and changes nothing.
///
/// Behind the grant the peer may come back with a new control connection that names the session, and a certificate of the same names,
/// which may have been renewed. That replaces all connections: each *generation* of them begins with one of control.
struct SessionTable: Sendable {
    /// 32 random bytes.
    typealias Identifier = [UInt8]

    /// What is known about the other end of a connection after its handshake.
    struct Peer: Sendable, Equatable {
        /// For messages.
        var name: String
        /// SHA-256 of its certificate.
        var fingerprint: [UInt8]
        /// All names of its certificate that the authority vouches for.
        var names: [String] = []

        /// Whether this is the same one, by the names that its authority has certified, or by the certificate itself if it names
        /// nobody.
        func isSame(as other: Peer) -> Bool {
            guard names.isEmpty || other.names.isEmpty else { return names.sorted() == other.names.sorted() }
            return SessionTable.areEqual(fingerprint, other.fingerprint)
        }
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
        /// The process has been granted to a destination that will come back.
        case granted
        /// The session is being granted, or taken up: a moment later it is known.
        case notYet
        /// The page server is about to end.
        case closed
    }

    /// The most connections of one purpose besides the one of control.
    static let maximumConnections = 8

    private enum Phase {
        case open, granting, granted
    }

    private struct Session {
        var identifier: Identifier
        var peer: Peer
        var connections: [Purpose: Int] = [.control: 1]
        var phase = Phase.open
        /// Its destination has come back before the grant: what it had is over.
        var isAbandoned = false
        /// Whether fault and bulk connections may join.
        var takesPageConnections = true
    }

    private var session: Session?
    private var isClosed = false
    /// The number of the present control connection, counted from 1.
    private(set) var generation: UInt64 = 0

    /// The peer that the session belongs to.
    var owner: Peer? { session?.peer }

    /// The session's name for people: it tells nothing of the secret.
    var publicName: String? { session.map { SessionRecord.name(of: $0.identifier) } }

    /// Whether the destination has come back before it was granted anything: the session has to be undone.
    var isAbandoned: Bool { session?.isAbandoned ?? false }

    /// A control connection wants to open a session under a fresh `identifier`.
    mutating func controlArrived(from peer: Peer, identifier: Identifier) throws(Refusal) {
        guard !isClosed else { throw .closed }
        if let session { throw session.phase == .granted ? .granted : .busy }
        session = Session(identifier: identifier, peer: peer)
        generation += 1
    }

    /// A control connection wants to take up the session `identifier`.
    ///
    /// Before the grant that shows that the session's connection has broken: then it is over, and nothing has happened.
    mutating func controlReturned(from peer: Peer, identifier: Identifier) throws(Refusal) {
        guard !isClosed else { throw .closed }
        guard var session, Self.areEqual(session.identifier, identifier), session.peer.isSame(as: peer) else {
            throw .noSuchSession
        }
        switch session.phase {
        case .open:
            self.session?.isAbandoned = true
            throw .noSuchSession
        case .granting: throw .notYet
        case .granted:
            session.peer = peer
            session.connections = [.control: 1]
            session.takesPageConnections = false
            self.session = session
            generation += 1
        }
    }

    /// The destination of the generation has been told that its session goes on: its other connections may come.
    mutating func resumed(_ generation: UInt64) {
        if generation == self.generation { session?.takesPageConnections = true }
    }

    /// A fault or bulk connection wants to join the session `identifier`.
    ///
    /// - Returns: whether it is the first of its purpose.
    @discardableResult
    mutating func connectionArrived(
        _ purpose: Purpose,
        from peer: Peer,
        identifier: Identifier
    ) throws(Refusal) -> Bool {
        guard !isClosed else { throw .closed }
        guard var session, Self.areEqual(session.identifier, identifier),
            Self.areEqual(session.peer.fingerprint, peer.fingerprint)
        else { throw .noSuchSession }
        guard session.takesPageConnections else { throw .notYet }
        let count = session.connections[purpose, default: 0]
        guard purpose != .control, count < Self.maximumConnections else { throw .tooMany(purpose) }
        session.connections[purpose] = count + 1
        self.session = session
        return count == 0
    }

    /// A connection of a generation of the session has ended.
    mutating func connectionEnded(_ purpose: Purpose, of generation: UInt64) {
        guard generation == self.generation else { return }
        session?.connections[purpose, default: 1] -= 1
    }

    /// The grant is about to be recorded.
    ///
    /// - Returns: false when it may not be: the destination has lost its connection, and was told that the session is over.
    mutating func grantBegins() -> Bool {
        guard let session, !session.isAbandoned else { return false }
        self.session?.phase = .granting
        return true
    }

    /// The process runs at the destination from now on; the session never makes room for another one.
    mutating func granted() {
        session?.phase = .granted
    }

    /// The session ended before the process was frozen: another destination may come.
    mutating func sessionEnded() {
        guard session?.phase != .granted else { return }
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
