// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import Logging
internal import PageWire
internal import Reporting
internal import TLSSession

/// Lets connections in: one thread accepts, and one thread a connection finds out who is there.
///
/// Whoever has not shown a certificate and a session can hold one of a bounded number of threads for a bounded time. When all are
/// held, the oldest has to go, so that strangers cannot lock the destination out by being there first.
final class Acceptor: Sendable {
    /// The most connections whose peer is not known yet.
    static let maximumGreetings = 32
    /// How long a peer may take to show a certificate and say what it wants.
    static let greetingTimeout = Duration.seconds(10)
    /// How long one that was told to go may take before the next oldest is told, too.
    private static let evictionTime = Duration.milliseconds(100)

    private struct Greeting {
        let number: UInt64
        let eviction: EventDescriptor
    }

    private struct Greetings {
        var next: UInt64 = 0
        var open: [Greeting] = []
        /// Threads, those of evicted connections included.
        var threads = 0
    }

    private let listener: Listener
    private let context: TLSContext
    private let session: ServedSession
    private let logger: Logger
    private let greetings = Lock(Greetings())
    /// A greeting has ended.
    private let roomMade: EventDescriptor

    init(_ listener: Listener, _ context: TLSContext, _ session: ServedSession, logger: Logger) throws(SystemCallError)
    {
        roomMade = try EventDescriptor()
        self.listener = listener
        self.context = context
        self.session = session
        self.logger = logger
    }

    /// Starts to accept, until the session stops.
    func start() throws(SystemCallError) {
        try session.start("accept-\(session.pid)", keeping: ThreadPrivileges.none) { [self] in run() }
    }

    private func run() {
        do throws(SystemCallError) {
            let poller = try Poller(capacity: 2)
            try poller.add(listener.descriptor, token: 0)
            try poller.add(session.stop.descriptor, token: 1)
            while true {
                let count = try poller.wait()
                for index in 0..<count where poller[index].token == 1 { return evictAll() }
                try acceptAll()
            }
        } catch {
            logger.error("No more connections are accepted", metadata: ["reason": "\(error)"])
        }
    }

    private func acceptAll() throws(SystemCallError) {
        while true {
            let accepted: StreamSocket?
            do throws(SystemCallError) {
                accepted = try listener.accept()
            } catch {
                // Out of descriptors: those who were let in go on, and the one who waits is looked at again when one is free.
                logger.warning("A connection could not be accepted", metadata: ["reason": "\(error)"])
                _ = try session.stop.wait(until: .after(.milliseconds(100)))
                return
            }
            guard let socket = accepted else { return }
            greet(socket)
        }
    }

    private func greet(_ socket: consuming StreamSocket) {
        do {
            let eviction = try EventDescriptor()
            let connection = try TLSConnection(accepted: socket, context)
            connection.interruption = eviction
            let handover = try Handover<TLSConnection>()
            handover.put(connection)
            let number = try admitStranger(eviction)
            do {
                try session.start("greet-\(session.pid)", keeping: ThreadPrivileges.none) { [self] in
                    if let connection = handover.take() { introduce(connection) }
                    forget(number)
                }
            } catch {
                forget(number)
                throw error
            }
        } catch {
            logger.warning("A connection was dropped", metadata: ["reason": "\(error)"])
        }
    }

    /// Counts a connection whose peer is not known, at the price of the oldest one when there are too many.
    private func admitStranger(_ eviction: EventDescriptor) throws(SystemCallError) -> UInt64 {
        while true {
            let number: UInt64? = greetings.withLock { greetings in
                guard greetings.threads < Self.maximumGreetings else {
                    if !greetings.open.isEmpty { greetings.open.removeFirst().eviction.signal() }
                    return nil
                }
                greetings.next += 1
                greetings.threads += 1
                greetings.open.append(Greeting(number: greetings.next, eviction: eviction))
                return greetings.next
            }
            if let number { return number }
            // Whoever is evicted is gone after at most one step of a handshake, and the kernel keeps those who wait to be accepted.
            _ = try roomMade.wait(until: .after(Self.evictionTime))
            roomMade.drain()
        }
    }

    private func evictAll() {
        greetings.withLock { greetings in
            for greeting in greetings.open { greeting.eviction.signal() }
        }
    }

    private func forget(_ number: UInt64) {
        greetings.withLock { greetings in
            greetings.open.removeAll { $0.number == number }
            greetings.threads -= 1
        }
        roomMade.signal()
    }

    /// Finds out who is there and what for.
    private func introduce(_ connection: sending TLSConnection) {
        let from = connection.peerAddress.map { "\($0)" } ?? "?"
        let deadline = Deadline.after(Self.greetingTimeout)
        do throws(TLSError) {
            try connection.handshake(until: deadline)
            let count = FrameHeader.byteCount + FrameKind.hello.payloadBounds.upperBound
            let bytes = try connection.readFully(count: count, until: deadline)
            try admit(connection, hello: bytes, until: deadline)
        } catch {
            logger.info("A connection was turned away", metadata: ["peer.address": "\(from)", "reason": "\(error)"])
        }
    }

    private func admit(_ connection: sending TLSConnection, hello: [UInt8], until deadline: Deadline) throws(TLSError) {
        guard let identity = connection.peer else { return connection.close() }
        let peer = SessionTable.Peer(
            name: identity.description,
            fingerprint: identity.fingerprint,
            names: identity.names
        )
        let admission: Admission
        // A page connection: taken before the session lets it in, so that the end of that session is not missed. (The session of a
        // control connection begins with it.)
        let stop = session.connectionStop
        session.pageConnections.begin()
        do {
            admission = try enter(peer, hello)
        } catch {
            session.pageConnections.end()
            let message = Message.refused(code: UInt16(error.code.rawValue), text: error.message)
            try connection.writeFully(message.encoded(), until: deadline)
            connection.close()
            logger.notice("A peer was refused", metadata: ["peer.name": "\(peer.name)", "reason": "\(error.message)"])
            return
        }
        if admission.kind == .control { session.pageConnections.end() }
        do {
            try connection.writeFully(Message.welcome(session: admission.session).encoded(), until: deadline)
            connection.interruption = admission.kind == .control ? session.connectionStop : stop
            let channel = try FrameChannel(connection, kind: admission.kind, side: .source)
            try serve(channel, admission)
        } catch {
            logger.notice("A connection was lost", metadata: ["peer.name": "\(peer.name)", "reason": "\(error)"])
            left(admission)
        }
    }

    /// A connection that was let in.
    private struct Admission {
        let kind: ConnectionKind
        let session: SessionIdentifier
        /// Of the control connection that it belongs to.
        let generation: UInt64
        /// Whether it is the first of its kind there.
        var isFirst = true
    }

    /// Applies the rules of ``SessionTable`` to a greeting.
    private func enter(
        _ peer: SessionTable.Peer,
        _ hello: [UInt8]
    ) throws(SessionFailure) -> Admission {
        let message: Message
        do throws(WireError) {
            message = try Message(decoding: hello, on: .control, from: .destination)
        } catch {
            throw SessionFailure(.peer, error.description)
        }
        guard case .hello(let kind, let claimed) = message else {
            throw SessionFailure(.peer, "a connection begins with a greeting")
        }
        do {
            if kind == .control, claimed == .none {
                let fresh = try RandomBytes.make(SessionIdentifier.byteCount)
                guard let identifier = SessionIdentifier(bytes: fresh) else {
                    preconditionFailure("32 bytes are an identifier")
                }
                let generation = try session.table.withLock { table throws(SessionTable.Refusal) in
                    try table.controlArrived(from: peer, identifier: fresh)
                    return table.generation
                }
                return Admission(kind: kind, session: identifier, generation: generation)
            }
            let (generation, isFirst) = try session.table.withLock { table throws(SessionTable.Refusal) in
                var isFirst = true
                switch kind {
                case .control: try table.controlReturned(from: peer, identifier: claimed.bytes)
                case .fault: isFirst = try table.connectionArrived(.fault, from: peer, identifier: claimed.bytes)
                case .bulk: isFirst = try table.connectionArrived(.bulk, from: peer, identifier: claimed.bytes)
                }
                return (table.generation, isFirst)
            }
            if kind == .control { try session.replaceConnections() }
            return Admission(kind: kind, session: claimed, generation: generation, isFirst: isFirst)
        } catch let refusal as SessionTable.Refusal {
            if session.table.withLock({ $0.isAbandoned }) { session.abandoned.signal() }
            throw refusal.failure
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
    }

    private func serve(_ channel: sending FrameChannel, _ admission: Admission) throws {
        let kind = admission.kind
        if kind == .control {
            session.controls.put(ArrivedControl(channel: channel, generation: admission.generation))
            return
        }
        let handover = try Handover<FrameChannel>()
        handover.put(channel)
        let isUrgent = kind == .fault
        session.order(
            "\(isUrgent ? "fault" : "bulk")-\(session.pid)",
            urgency: isUrgent ? .urgent : .background,
            // The first stream may have to look at what the process writes first.
            keeping: isUrgent || !admission.isFirst ? ThreadPrivileges.reader : ThreadPrivileges.tracker
        ) { [self] in
            defer { left(admission) }
            guard let channel = handover.take() else { return }
            let placement = session.place(isUrgent ? .source : .stream, of: admission.session)
            if isUrgent {
                FaultService(session, placement, logger: logger).run(channel)
            } else {
                BulkService(session, isFirst: admission.isFirst, placement, logger: logger).run(channel)
            }
        } failed: { [self] error in
            logger.notice("A connection was lost", metadata: ["reason": "\(error)"])
            handover.take()?.connection.close()
            left(admission)
        }
    }

    private func left(_ admission: Admission) {
        session.table.withLock { table in
            switch admission.kind {
            case .control: if table.generation == admission.generation { table.sessionEnded() }
            case .fault: table.connectionEnded(.fault, of: admission.generation)
            case .bulk: table.connectionEnded(.bulk, of: admission.generation)
            }
        }
        if admission.kind != .control { session.pageConnections.end() }
    }
}

extension SessionTable.Refusal {
    /// What the peer is told.
    var failure: SessionFailure {
        switch self {
        case .busy: SessionFailure(.tryAgain, "another destination is being served")
        case .noSuchSession:
            SessionFailure(
                .peer,
                "there is no such session for this peer; if it had one, that has ended here: start the move again"
            )
        case .tooMany: SessionFailure(.peer, "the session has enough connections of this kind")
        case .granted: SessionFailure(.tryAgain, "the process was granted to another destination")
        case .notYet: SessionFailure(.tryAgain, "the session is being changed just now")
        case .closed: SessionFailure(.tryAgain, "the page server is about to end")
        }
    }
}
