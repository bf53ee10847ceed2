// SPDX-License-Identifier: Apache-2.0
internal import COpenSSL
internal import LinuxSystem
internal import TLSSession
internal import TestSupport
internal import Testing

@Suite("Handshake", .serialized, .timeLimit(.minutes(5)))
struct HandshakeTests {
    @Test func twoGoodSidesKnowEachOther() throws {
        let ends = try Ends()
        #expect(drive(ends.server, ends.client) == (.complete, .complete))
        #expect(ends.server.peer?.dnsNames == ["destination.example"])
        #expect(ends.server.peer?.uris == ["spiffe://example/destination"])
        #expect(ends.client.peer == ends.server.context.identity)
        #expect(ends.client.version == "TLSv1.3")
        #expect(ends.server.cipher.hasPrefix("TLS_AES_256"))
    }

    // MARK: - What a server refuses

    /// A client with a wrong certificate, what the server says about it, and the alert that it gets.
    struct WrongClient: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let identity: String?
        let code: TLSError.Code
        let alert: Int32
        var revocations: String?
        var allow: [String] = []
    }

    static let wrongClients: [WrongClient] = [
        WrongClient(
            testDescription: "none",
            identity: nil,
            code: .peerWithoutCertificate,
            alert: SSL_AD_CERTIFICATE_REQUIRED
        ),
        WrongClient(
            testDescription: "other CA",
            identity: "foreign/client",
            code: .peerUntrusted,
            alert: SSL_AD_UNKNOWN_CA
        ),
        WrongClient(
            testDescription: "self-signed",
            identity: "self-signed-client",
            code: .peerSelfSigned,
            alert: SSL_AD_UNKNOWN_CA
        ),
        WrongClient(
            testDescription: "expired",
            identity: "expired-client",
            code: .peerExpired,
            alert: SSL_AD_CERTIFICATE_EXPIRED
        ),
        WrongClient(
            testDescription: "not yet valid",
            identity: "future-client",
            code: .peerNotYetValid,
            alert: SSL_AD_BAD_CERTIFICATE
        ),
        WrongClient(
            testDescription: "revoked",
            identity: "revoked-client",
            code: .peerRevoked,
            alert: SSL_AD_CERTIFICATE_REVOKED,
            revocations: "crl.pem"
        ),
        WrongClient(
            testDescription: "a server's",
            identity: "server",
            code: .peerWrongPurpose,
            alert: SSL_AD_UNSUPPORTED_CERTIFICATE
        ),
        WrongClient(
            testDescription: "not allowed",
            identity: "client",
            code: .peerNotAllowed,
            alert: SSL_AD_HANDSHAKE_FAILURE,
            allow: ["other.example", "spiffe://example/other"]
        ),
        WrongClient(
            testDescription: "common name only",
            identity: "nameless-client",
            code: .peerNotAllowed,
            alert: SSL_AD_HANDSHAKE_FAILURE,
            allow: ["nameless-client"]
        ),
    ]

    @Test(arguments: wrongClients)
    func aServerRefusesAndSaysWhy(_ wrong: WrongClient) throws {
        let context = try TLSContext.server(
            Files.server(revocations: wrong.revocations),
            allowing: AllowList(wrong.allow)
        )
        let (first, second) = try socketPair()
        let server = try TLSConnection(accepted: first.take(), context)
        let client = try RoguePeer(.client, over: second.take(), identity: wrong.identity)
        let (serverResult, clientResult) = drive(server, client)
        #expect(serverResult.code == wrong.code, "\(serverResult)")
        #expect(serverResult.error?.exitCode == 76)
        // The client of TLS 1.3 believes that all is well until it reads.
        #expect(clientResult == .complete)
        #expect(client.read() == .broken)
        #expect(client.alert == wrong.alert)
        // What it sends all the same is not looked at.
        _ = client.write([1, 2, 3])
        #expect(server.peer == nil)
        #expect(try server.readOnce().outcome == .closed)
        #expect(throws: TLSError.self) { try server.writeFully([1], until: soon()) }
    }

    @Test func theMessageForOneWhoIsNotAllowedListsItsNames() throws {
        let ends = try Ends(allowing: AllowList(["other.example"]))
        let error = try #require(drive(ends.server, ends.client).0.error)
        #expect(error.description.contains("\"destination.example\", \"spiffe://example/destination\""), "\(error)")
        #expect(error.description.contains("--allow"))
    }

    @Test(arguments: ["destination.example", "DESTINATION.example", "spiffe://example/destination"])
    func anAllowedClientIsServed(_ name: String) throws {
        let ends = try Ends(allowing: AllowList(["other.example", name]))
        #expect(drive(ends.server, ends.client) == (.complete, .complete))
    }

    @Test func aChainWithACertificateBetweenIsFollowed() throws {
        let folder = try Files.path("chained")
        let server = try TLSContext.server(TLSFiles(directory: folder, role: .server), allowing: .anyCertified)
        let client = try TLSContext.client(TLSFiles(directory: folder, role: .client))
        let ends = try Ends(server: server, client: client)
        #expect(drive(ends.server, ends.client) == (.complete, .complete))
    }

    @Test func aClientLearnsFromItsFirstReadThatItIsNotServed() throws {
        let ends = try Ends(allowing: AllowList(["other.example"]))
        #expect(drive(ends.server, ends.client).1 == .complete)
        let error = try #require(throws: TLSError.self) { try ends.client.readOnce() }
        #expect(error.code == .rejectedByPeer)
        #expect(error.description.contains("allow list"), "\(error)")
        #expect(error.exitCode == 76)
        #expect(!error.isConnectionLoss)
    }

    @Test func aClientThatWritesFirstLearnsItAsWell() throws {
        let context = try TLSContext.server(Files.server(), allowing: AllowList(["other.example"]))
        let listener = try Listener(host: "127.0.0.1", port: 0)
        let thread = try refuseOne(listener, context)
        let socket = try StreamSocket.connect(to: "127.0.0.1", port: listener.address.port, until: soon())
        let client = try TLSConnection(connected: socket, TLSContext.client(Files.client()), serverName: "127.0.0.1")
        try client.handshake(until: soon())
        thread.join()
        // The server has refused and closed by now: writes run into its reset sooner or later.
        let error = try #require(throws: TLSError.self) {
            for _ in 0..<1000 { try client.writeFully([UInt8](repeating: 7, count: 4096), until: soon()) }
            _ = try client.readFully(count: 1, until: soon())
        }
        #expect(error.code == .rejectedByPeer, "\(error)")
    }

    private func refuseOne(_ listener: Listener, _ context: TLSContext) throws -> NamedThread {
        try NamedThread("refuse") {
            guard (try? DescriptorIO.wait(for: .readable, on: listener.descriptor, until: soon())) == true,
                let socket = try? listener.accept(), let server = try? TLSConnection(accepted: socket, context)
            else { return }
            try? server.handshake(until: soon())
        }
    }

    // MARK: - What a client refuses

    /// A server with a wrong certificate and what the client says about it.
    struct WrongServer: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let identity: String
        let code: TLSError.Code
        let alert: Int32
        var revocations: String?
        var words = ""
    }

    static let wrongServers: [WrongServer] = [
        WrongServer(
            testDescription: "other CA",
            identity: "foreign/server",
            code: .peerUntrusted,
            alert: SSL_AD_UNKNOWN_CA
        ),
        WrongServer(
            testDescription: "self-signed",
            identity: "self-signed-server",
            code: .peerSelfSigned,
            alert: SSL_AD_UNKNOWN_CA
        ),
        WrongServer(
            testDescription: "expired",
            identity: "expired-server",
            code: .peerExpired,
            alert: SSL_AD_CERTIFICATE_EXPIRED
        ),
        WrongServer(
            testDescription: "not yet valid",
            identity: "future-server",
            code: .peerNotYetValid,
            alert: SSL_AD_BAD_CERTIFICATE
        ),
        WrongServer(
            testDescription: "revoked",
            identity: "revoked-server",
            code: .peerRevoked,
            alert: SSL_AD_CERTIFICATE_REVOKED,
            revocations: "crl.pem"
        ),
        WrongServer(
            testDescription: "a client's",
            identity: "client",
            code: .peerWrongPurpose,
            alert: SSL_AD_UNSUPPORTED_CERTIFICATE
        ),
        WrongServer(
            testDescription: "other name",
            identity: "other-name-server",
            code: .peerNameMismatch,
            alert: SSL_AD_BAD_CERTIFICATE,
            words: "\"elsewhere.example\", \"192.0.2.1\""
        ),
    ]

    @Test(arguments: wrongServers)
    func aClientRefusesAndSaysWhy(_ wrong: WrongServer) throws {
        let context = try TLSContext.client(Files.client(revocations: wrong.revocations))
        let (first, second) = try socketPair()
        let server = try RoguePeer(.server, over: first.take(), identity: wrong.identity)
        // A client's certificate carries no name of a server: the one that it does carry is asked for, so that only the purpose is wrong.
        let name = wrong.identity == "client" ? "destination.example" : "localhost"
        let client = try TLSConnection(connected: second.take(), context, serverName: name)
        let (_, clientResult) = drive(server, client)
        #expect(clientResult.code == wrong.code, "\(clientResult)")
        #expect(clientResult.error?.description.contains(wrong.words) == true, "\(clientResult)")
        #expect(clientResult.error?.exitCode == 76)
        #expect(client.peer == nil)
        #expect(server.alert == wrong.alert)
    }

    @Test(arguments: [
        "localhost", "LocalHost", "source.example", "127.0.0.1", "::1", "[::1]", "0:0:0:0:0:0:0:1",
        "spiffe://example/source",
    ])
    func aNameThatTheServerCarriesIsAccepted(_ name: String) throws {
        let ends = try Ends(serverName: name)
        #expect(drive(ends.server, ends.client) == (.complete, .complete))
    }

    @Test(arguments: [
        "example", "a.source.example", "127.0.0.2", "::2", "destination.example", "spiffe://example/sourc",
        "spiffe://example/source/",
        "http://source.example",
    ])
    func anyOtherNameIsAMismatch(_ name: String) throws {
        let ends = try Ends(serverName: name)
        let error = try #require(drive(ends.server, ends.client).1.error)
        #expect(error.code == .peerNameMismatch, "\(error)")
        #expect(error.description.contains("\"\(name)\""), "\(error)")
        #expect(error.description.contains("\"source.example\""), "\(error)")
    }

    @Test(arguments: ["", " ", "a b", "with:colon", "n\u{e4}me", "nul\0", "[::1"])
    func whatCannotBeANameIsAnErrorBeforeAnythingIsSent(_ name: String) {
        let error = #expect(throws: TLSError.self) { try Ends(serverName: name) }
        #expect(error?.code == .badName)
    }

    // MARK: - Versions and other protocols

    @Test func aClientOfTLS12IsRefused() throws {
        let (first, second) = try socketPair()
        let server = try TLSConnection(
            accepted: first.take(),
            TLSContext.server(Files.server(), allowing: .anyCertified)
        )
        let client = try RoguePeer(.client, over: second.take(), identity: "client", highest: TLS1_2_VERSION)
        let (serverResult, clientResult) = drive(server, client)
        #expect(serverResult.code == .versionMismatch, "\(serverResult)")
        #expect(clientResult == .broken)
        #expect(client.alert == SSL_AD_PROTOCOL_VERSION)
    }

    @Test func aServerOfTLS12IsRefused() throws {
        let (first, second) = try socketPair()
        let server = try RoguePeer(.server, over: first.take(), identity: "server", highest: TLS1_2_VERSION)
        let client = try TLSConnection(
            connected: second.take(),
            TLSContext.client(Files.client()),
            serverName: "localhost"
        )
        let (_, clientResult) = drive(server, client)
        #expect(clientResult.code == .versionMismatch, "\(clientResult)")
    }

    @Test(arguments: [
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "THAW\u{1}\0hello and some more bytes",
        "\u{16}\u{3}\u{1}\0\u{4}\u{63}\0\0\0",
    ])
    func whatIsNotTLSIsRefused(_ text: String) throws {
        let (first, second) = try socketPair()
        let server = try TLSConnection(
            accepted: first.take(),
            TLSContext.server(Files.server(), allowing: .anyCertified)
        )
        let stranger = second.take()
        try DescriptorIO.write(Array(text.utf8), to: stranger.descriptor)
        let error = try #require(throws: TLSError.self) { try server.handshake(until: soon()) }
        #expect(error.exitCode == 76, "\(error)")
    }

    @Test func noSessionCanBeResumedAndNoEarlyDataSent() throws {
        let (first, second) = try socketPair()
        let server = try TLSConnection(
            accepted: first.take(),
            TLSContext.server(Files.server(), allowing: .anyCertified)
        )
        let client = try RoguePeer(.client, over: second.take(), identity: "client")
        #expect(drive(server, client) == (.complete, .complete))
        // A ticket would come before the first byte.
        try server.writeFully([1], until: soon())
        #expect(client.read() == .complete)
        #expect(!client.canResume)
    }

    @Test func newKeysDoNotDisturbTheStream() throws {
        let (first, second) = try socketPair()
        let server = try TLSConnection(
            accepted: first.take(),
            TLSContext.server(Files.server(), allowing: .anyCertified)
        )
        let client = try RoguePeer(.client, over: second.take(), identity: "client")
        #expect(drive(server, client) == (.complete, .complete))
        for round in 0..<3 as Range<UInt8> {
            #expect(client.updateKeys())
            #expect(client.write([round]))
            #expect(try server.readFully(count: 1, until: soon()) == [round])
            try server.writeFully([round], until: soon())
            #expect(client.read() == .complete)
        }
    }

    // MARK: - Time

    @Test func aPeerThatSaysNothingHoldsAHandshakeUntilTheDeadlineOnly() throws {
        let (first, second) = try socketPair()
        let server = try TLSConnection(
            accepted: first.take(),
            TLSContext.server(Files.server(), allowing: .anyCertified)
        )
        let silent = second.take()
        let error = try #require(throws: TLSError.self) { try server.handshake(until: .after(.milliseconds(50))) }
        #expect(error.code == .timedOut)
        #expect(error.isConnectionLoss)
        _ = silent.descriptor
    }

    @Test func aPeerThatLeavesDuringTheHandshakeIsNoticed() throws {
        let (first, second) = try socketPair()
        let server = try TLSConnection(
            accepted: first.take(),
            TLSContext.server(Files.server(), allowing: .anyCertified)
        )
        _ = second.take()
        let error = try #require(throws: TLSError.self) { try server.handshake(until: soon()) }
        #expect(error.code == .truncated, "\(error)")
    }

    @Test func anEventEndsAHandshakeThatWaits() throws {
        let (first, second) = try socketPair()
        let server = try TLSConnection(
            accepted: first.take(),
            TLSContext.server(Files.server(), allowing: .anyCertified)
        )
        let silent = second.take()
        let stop = try EventDescriptor()
        server.interruption = stop
        stop.signal()
        let error = try #require(throws: TLSError.self) { try server.handshake(until: soon()) }
        #expect(error.code == .interrupted)
        _ = silent.descriptor
    }
}
