// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import TLSSession
internal import TestSupport

/// How long a test waits for something that should come soon.
func soon() -> Deadline { .after(patience) }

/// The certificates that tests are made of.
enum Files {
    static func server(_ prefix: String = "server", revocations: String? = nil) throws -> TLSFiles {
        try of(prefix, revocations)
    }

    static func client(_ prefix: String = "client", revocations: String? = nil) throws -> TLSFiles {
        try of(prefix, revocations)
    }

    static func path(_ name: String) throws -> String {
        "\(try BadCertificates.directory())/\(name)"
    }

    private static func of(_ prefix: String, _ revocations: String?) throws -> TLSFiles {
        let folder = try BadCertificates.directory()
        return TLSFiles(
            authority: "\(folder)/ca-cert.pem",
            certificate: "\(folder)/\(prefix)-cert.pem",
            key: "\(folder)/\(prefix)-key.pem",
            revocations: revocations.map { "\(folder)/\($0)" }
        )
    }
}

/// What came of one side's handshake.
enum SideResult: Equatable {
    case pending
    case complete
    case failed(TLSError)
    /// A rogue peer's handshake failed.
    case broken

    var code: TLSError.Code? {
        if case .failed(let error) = self { return error.code }
        return nil
    }

    var error: TLSError? {
        if case .failed(let error) = self { return error }
        return nil
    }
}

/// One end of a handshake that a test drives step by step.
protocol HandshakeEnd {
    /// Goes on as far as possible without waiting.
    func step() -> SideResult
}

extension TLSConnection: HandshakeEnd {
    func step() -> SideResult {
        do throws(TLSError) {
            return try continueHandshake() == .complete ? .complete : .pending
        } catch {
            return .failed(error)
        }
    }

    /// Reads once; what the other side says about us comes with it.
    func readOnce() throws(TLSError) -> (outcome: ReadOutcome, bytes: [UInt8]) {
        let buffer: TransferBuffer
        do {
            buffer = try TransferBuffer(capacity: 65536)
        } catch {
            preconditionFailure("\(error)")
        }
        let outcome = try read(into: buffer, at: 0, count: 65536)
        guard case .bytes(let count) = outcome else { return (outcome, []) }
        return (outcome, buffer.withBytes(0..<count) { bytes in (0..<count).map { bytes[$0] } })
    }
}

/// Drives both ends of a socket pair, which passes bytes on at once, until neither can go on.
func drive(_ first: some HandshakeEnd, _ second: some HandshakeEnd) -> (SideResult, SideResult) {
    var results: (SideResult, SideResult) = (.pending, .pending)
    // A handshake has a handful of flights; a failed one may leave the other side waiting.
    for _ in 0..<20 {
        if results.0 == .pending { results.0 = first.step() }
        if results.1 == .pending { results.1 = second.step() }
    }
    return results
}

/// Two connected sockets of this process.
func socketPair() throws -> (StreamSocketBox, StreamSocketBox) {
    var pair = try DescriptorPair.sockets()
    return (
        StreamSocketBox(try StreamSocket(adopting: pair.takeFirst())),
        StreamSocketBox(try StreamSocket(adopting: pair.takeSecond()))
    )
}

/// Carries a socket, which cannot be copied, out of a tuple.
final class StreamSocketBox {
    private var socket: StreamSocket?

    init(_ socket: consuming StreamSocket) {
        self.socket = consume socket
    }

    func take() -> StreamSocket {
        guard let socket = socket.take() else { preconditionFailure("taken twice") }
        return socket
    }
}

/// A server's and a client's connection over a socket pair, before their handshake.
struct Ends {
    let server: TLSConnection
    let client: TLSConnection

    init(
        server: TLSContext? = nil,
        client: TLSContext? = nil,
        serverName: String = "localhost",
        allowing allowList: AllowList = .anyCertified
    ) throws {
        let (first, second) = try socketPair()
        try self.init(first.take(), second.take(), server, client, serverName, allowList)
    }

    private init(
        _ first: consuming StreamSocket,
        _ second: consuming StreamSocket,
        _ server: TLSContext?,
        _ client: TLSContext?,
        _ serverName: String,
        _ allowList: AllowList
    ) throws {
        let serverContext = try server ?? TLSContext.server(Files.server(), allowing: allowList)
        let clientContext = try client ?? TLSContext.client(Files.client())
        self.server = try TLSConnection(accepted: first, serverContext)
        self.client = try TLSConnection(connected: second, clientContext, serverName: serverName)
    }

    /// Both ends over TCP on the loopback interface.
    static func overTCP() throws -> Ends {
        let listener = try Listener(host: "127.0.0.1", port: 0)
        let client = try StreamSocket.connect(to: "127.0.0.1", port: listener.address.port, until: soon())
        guard try DescriptorIO.wait(for: .readable, on: listener.descriptor, until: soon()),
            let server = try listener.accept()
        else { throw TestFailure("no connection came") }
        return try Ends(server, client, nil, nil, "localhost", .anyCertified)
    }

    /// Two ends that have proved who they are.
    static func connected() throws -> Ends {
        let ends = try Ends()
        try ends.shakeHands()
        return ends
    }

    /// Completes the handshake of both, whatever carries the bytes.
    func shakeHands() throws {
        let deadline = soon()
        var results: (SideResult, SideResult) = (.pending, .pending)
        while results != (.complete, .complete) {
            if results.0 == .pending { results.0 = server.step() }
            if results.1 == .pending { results.1 = client.step() }
            if let error = results.0.error ?? results.1.error { throw error }
            guard !deadline.hasPassed else { throw TestFailure("the handshake did not end") }
        }
    }
}
