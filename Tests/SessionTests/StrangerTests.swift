// SPDX-License-Identifier: Apache-2.0
import FrameTransport
import LinuxSystem
import PageWire
import Paging
import Reporting
import TLSSession
import TestSupport
import Testing

@testable import LazyRestore
@testable import PageServer

/// Promise 6 over real connections: whoever is not the session's peer reads no page, ends no session and slows nobody down.
@Suite(.serialized, .timeLimit(.minutes(5))) struct StrangerTests {
    private static let memory: FakeMemory = {
        var memory = FakeMemory()
        memory.data.insert(0x100..<0x110)
        return memory
    }()

    /// Certificates of a second restorer that the same authority has certified.
    private static let otherPeer: Result<TLSLocation, any Error> = Result {
        let folder = try Certificates.directory()
        let script = """
            set -euo pipefail
            source "$0/certs/authority.bash"
            issue "$1" other clientAuth "$valid_from" "$(moment 86400)" other
            """
        try withProcess("/bin/bash", ["-c", script, BuiltProduct.package, folder]) { process in
            guard try process.waitForExit() == .exited(0) else { throw TestFailure(process.report()) }
        }
        var location = TLSLocation(directory: folder)
        location.certificate = "\(folder)/other-cert.pem"
        location.key = "\(folder)/other-key.pem"
        return location
    }

    private func serving(_ body: (ServerUnderTest) throws -> Void) throws {
        let server = try ServerUnderTest(FakeProcess(Self.memory))
        try body(server)
        // Whatever happened, a destination that is in order is served to the end.
        try moveAll(server)
    }

    private func moveAll(_ server: ServerUnderTest) throws {
        let destination = try ScriptedDestination(port: server.port)
        try complete(destination, server)
    }

    private func complete(_ destination: ScriptedDestination, _ server: ServerUnderTest) throws {
        try destination.openPageConnections()
        _ = try destination.reachGrant()
        var digest = PageDigest()
        _ = try destination.drain(into: &digest)
        try destination.send(.complete(PageTally(digest)))
        guard case .acknowledged = try destination.receive() else { throw TestFailure("not acknowledged") }
        #expect(try server.outcome().outcome == Outcome())
        #expect(server.process.done == [.examined, .frozen, .committed, .killed])
    }

    @Test func aPeerOfAnotherAuthorityIsTurnedAway() throws {
        try serving { server in
            let error = #expect(throws: SessionFailure.self) {
                _ = try ScriptedDestination(port: server.port) { options in
                    // Trusts the page server, but shows a certificate of somebody else.
                    options.tls.certificate = "\(try! Certificates.foreignDirectory())/client-cert.pem"
                    options.tls.key = "\(try! Certificates.foreignDirectory())/client-key.pem"
                }
            }
            #expect(error?.code == .peer || error?.code == .badInput)
            #expect(server.process.done == [.examined])
        }
    }

    @Test func aPageServerOfAnotherAuthorityIsNotTrusted() throws {
        let foreign = try Certificates.foreignDirectory()
        try serving { server in
            let error = #expect(throws: SessionFailure.self) {
                _ = try ScriptedDestination(port: server.port) { $0.tls.directory = foreign }
            }
            #expect(error?.code == .peer)
        }
    }

    @Test func aPageServerOfAnotherNameIsNotTrusted() throws {
        try serving { server in
            let error = #expect(throws: SessionFailure.self) {
                _ = try ScriptedDestination(port: server.port) { $0.serverName = "elsewhere.example" }
            }
            #expect(error?.code == .peer)
        }
    }

    @Test func aPeerThatIsNotOnTheAllowListIsTurnedAway() throws {
        let server = try ServerUnderTest(FakeProcess(Self.memory)) { $0.allow = ["restorer"] }
        let other = try Self.otherPeer.get()
        let error = #expect(throws: SessionFailure.self) {
            _ = try ScriptedDestination(port: server.port) { $0.tls = other }
        }
        #expect(error?.code == .peer)
        #expect(server.process.done == [.examined])
        try moveAll(server)
    }

    @Test func aStrangerThatSaysNothingOrNonsenseIsForgotten() throws {
        let server = try ServerUnderTest(FakeProcess(Self.memory))
        do {
            var silent: [StreamSocketBox] = []
            for _ in 0..<Acceptor.maximumGreetings + 8 {
                silent.append(
                    StreamSocketBox(try .connect(to: "127.0.0.1", port: server.port, until: .after(patience)))
                )
            }
            let loud = StreamSocketBox(try .connect(to: "127.0.0.1", port: server.port, until: .after(patience)))
            try DescriptorIO.write(Array("GET / HTTP/1.1\r\n\r\n".utf8), to: loud.socket.descriptor)
            // Held open until here: the destination behind them gets in all the same.
            try moveAll(server)
            #expect(silent.count == Acceptor.maximumGreetings + 8)
        }
    }

    @Test func aPeerThatGreetsWronglyIsTurnedAway() throws {
        try serving { server in
            let context = try TLSContext.client(TLSFiles(directory: try Certificates.directory(), role: .client))
            let socket = try StreamSocket.connect(to: "127.0.0.1", port: server.port, until: .after(patience))
            let connection = try TLSConnection(connected: socket, context, serverName: "127.0.0.1")
            try connection.handshake(until: .after(patience))
            let channel = try FrameChannel(connection, kind: .control, side: .destination)
            var hello = Message.hello(connection: .control, session: .none).encoded()
            hello[20] = 99
            try connection.writeFully(hello, until: .after(patience))
            guard case .message(.refused(76, let text)) = try channel.receive(until: .after(patience)) else {
                throw TestFailure("not refused")
            }
            #expect(text.contains("version"))
        }
    }

    @Test func aWrongSessionIsTurnedAway() throws {
        let server = try ServerUnderTest(FakeProcess(Self.memory))
        let destination = try ScriptedDestination(port: server.port)
        guard let wrong = SessionIdentifier(bytes: [UInt8](repeating: 9, count: 32)) else { throw TestFailure("no id") }
        for kind in [ConnectionKind.fault, .bulk] {
            let error = #expect(throws: SessionFailure.self) { _ = try destination.link.open(kind, session: wrong) }
            #expect(error?.code == .peer)
        }
        try complete(destination, server)
    }

    @Test func theRightSessionFromAnotherPeerIsTurnedAway() throws {
        let server = try ServerUnderTest(FakeProcess(Self.memory))
        let destination = try ScriptedDestination(port: server.port)
        var options = RestoreOptions(port: server.port)
        options.tls = try Self.otherPeer.get()
        let thief = try PageServerLink(options, stop: EventDescriptor())
        for kind in [ConnectionKind.fault, .bulk] {
            let error = #expect(throws: SessionFailure.self) { _ = try thief.open(kind, session: destination.session) }
            #expect(error?.code == .peer)
        }
        try complete(destination, server)
    }

    @Test func aSecondDestinationIsToldToTryAgain() throws {
        let server = try ServerUnderTest(FakeProcess(Self.memory))
        let destination = try ScriptedDestination(port: server.port)
        let error = #expect(throws: SessionFailure.self) { _ = try ScriptedDestination(port: server.port) }
        #expect(error?.code == .tryAgain)
        try complete(destination, server)
    }

    @Test func aRequestForPagesBeforeTheFreezeIsNoWayIn() throws {
        let server = try ServerUnderTest(FakeProcess(Self.memory))
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        let answers = try destination.fetch(0x100)
        #expect(answers.map(\.frame.kind) == [.failed])
        #expect(server.process.done == [.examined])
        destination.vanish()
        try TestSupport.wait(for: "room for the next destination") {
            guard let next = try? ScriptedDestination(port: server.port) else { return false }
            try complete(next, server)
            return true
        }
    }
}

/// Keeps a socket open as long as somebody refers to it.
private final class StreamSocketBox {
    let socket: StreamSocket

    init(_ socket: consuming StreamSocket) {
        self.socket = socket
    }
}
