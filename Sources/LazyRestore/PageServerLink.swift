// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import PageWire
internal import Reporting
internal import TLSSession

/// Makes the connections to a page server, each greeted and welcomed.
struct PageServerLink {
    private let options: RestoreOptions
    private let context: TLSContext
    private let stop: EventDescriptor
    /// Whether nobody listened at the last attempt: then there is no page server, or none that can be reached.
    var nobodyListens: Bool { wasRefused.withLock { $0 } }
    private let wasRefused = Lock(false)

    init(_ options: RestoreOptions, stop: EventDescriptor) throws(SessionFailure) {
        self.options = options
        self.stop = stop
        do throws(TLSError) {
            context = try TLSContext.client(try TLSFiles(options.tls, role: .client))
        } catch {
            throw SessionFailure(ExitCode(rawValue: error.exitCode) ?? .bug, error.description)
        }
    }

    /// Connects and greets.
    ///
    /// - Parameters:
    ///   - kind: what for.
    ///   - session: of the control connection; none for a control connection that opens a session.
    ///   - event: ends every wait of the connection; nil for the end of everything.
    /// - Returns: the connection and the session that the page server named.
    func open(
        _ kind: ConnectionKind,
        session: SessionIdentifier = .none,
        interruptedBy event: EventDescriptor? = nil
    ) throws(SessionFailure) -> (channel: FrameChannel, session: SessionIdentifier) {
        let deadline = Deadline.after(options.connectTimeout)
        let connection = try secure(until: deadline)
        connection.interruption = event ?? stop
        do throws(ChannelError) {
            let channel = try FrameChannel(connection, kind: kind, side: .destination)
            try channel.send(.hello(connection: kind, session: session), until: deadline)
            switch try channel.receive(until: deadline) {
            case .message(.welcome(let named)):
                guard session == .none || named == session else { throw .unexpected(.welcome) }
                return (channel, named)
            case .message(.refused(let code, let text)): throw .refused(code: code, text: text)
            case .message(let message): throw .unexpected(message.kind)
            case .pages(let frame): throw .unexpected(frame.kind)
            case .nothing: throw .timedOut
            }
        } catch {
            throw SessionFailure(error.exitCode, "the page server at \(options.address) port \(options.port): \(error)")
        }
    }

    /// Makes the bulk connections of a session, each on its way to a thread of its own.
    ///
    /// - Returns: at least one; the first one carries everything that is sent once.
    func openStreams(
        _ session: SessionIdentifier,
        interruptedBy event: EventDescriptor,
        _ affinity: CPUAffinity?
    ) throws(SessionFailure) -> [Handover<FrameChannel>] {
        var streams: [Handover<FrameChannel>] = []
        for _ in 0..<RestoreOptions.streams(asked: options.streams, cpus: affinity?.cpus.count ?? 1) {
            let stream = try open(.bulk, session: session, interruptedBy: event)
            do throws(SystemCallError) {
                let handover = try Handover<FrameChannel>()
                handover.put(stream.channel)
                streams.append(handover)
            } catch {
                throw SessionFailure(.systemCall, "\(error)")
            }
        }
        return streams
    }

    private func secure(until deadline: Deadline) throws(SessionFailure) -> TLSConnection {
        wasRefused.withLock { $0 = false }
        let socket: StreamSocket
        do throws(SocketError) {
            socket = try StreamSocket.connect(
                to: options.address,
                port: options.port,
                until: deadline,
                interruptedBy: stop
            )
        } catch {
            let isRefusal = error.code == .refused
            wasRefused.withLock { $0 = isRefusal }
            throw SessionFailure(error.code == .unresolvable ? .notFound : .tryAgain, error.description)
        }
        do throws(TLSError) {
            let name = options.serverName ?? options.address
            let connection = try TLSConnection(connected: socket, context, serverName: name)
            connection.interruption = stop
            try connection.handshake(until: deadline)
            return connection
        } catch {
            throw SessionFailure(ExitCode(rawValue: error.exitCode) ?? .peer, error.description)
        }
    }
}
