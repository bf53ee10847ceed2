// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import TestSupport
internal import Testing

@Suite("Sockets", .serialized, .timeLimit(.minutes(5)))
struct SocketTests {
    @Test(arguments: ["127.0.0.1", "localhost"])
    func aConnectionComesToTheListener(_ host: String) throws {
        let listener = try Listener(host: host, port: 0)
        #expect(listener.address.port != 0)
        let client = try StreamSocket.connect(to: host, port: listener.address.port, until: soon())
        #expect(try DescriptorIO.wait(for: .readable, on: listener.descriptor, until: soon()))
        guard let server = try listener.accept() else { throw TestFailure("no connection") }
        #expect(server.localAddress == client.peerAddress)
        #expect(server.peerAddress == client.localAddress)
        try DescriptorIO.write([1, 2, 3], to: client.descriptor)
        #expect(try DescriptorIO.read(server.descriptor, limit: 10, until: soon()) == [1, 2, 3])
        client.shutDown()
        #expect(try DescriptorIO.read(server.descriptor, limit: 10, until: soon()) == [])
    }

    @Test(arguments: ["::1", "[::1]"])
    func theSameOverIPv6(_ host: String) throws {
        guard fileExists("/proc/net/if_inet6"), try !readText("/proc/net/if_inet6").isEmpty else { return }
        let listener = try Listener(host: host, port: 0)
        #expect(listener.address.description == "[::1]:\(listener.address.port)")
        let client = try StreamSocket.connect(to: host, port: listener.address.port, until: soon())
        #expect(client.peerAddress == listener.address)
    }

    @Test func withoutAConnectionAcceptReturnsAtOnce() throws {
        let listener = try Listener(host: "127.0.0.1", port: 0)
        let none = try listener.accept() == nil
        #expect(none)
    }

    @Test func whereNobodyListensConnectingIsRefused() throws {
        let port = try Listener(host: "127.0.0.1", port: 0).address.port
        let error = #expect(throws: SocketError.self) {
            _ = try StreamSocket.connect(to: "127.0.0.1", port: port, until: soon())
        }
        #expect(error?.code == .refused)
        #expect(error?.message.contains("127.0.0.1:\(port)") == true)
        #expect(error?.cause?.errno == .connectionRefused)
    }

    @Test func aPortThatIsTakenIsNamed() throws {
        let listener = try Listener(host: "127.0.0.1", port: 0)
        let error = #expect(throws: SocketError.self) {
            try Listener(host: "127.0.0.1", port: listener.address.port)
        }
        #expect(error?.code == .addressInUse)
        #expect(error?.description.contains("\(listener.address)") == true)
    }

    @Test func anAddressOfAnotherMachineCannotBeListenedOn() {
        let error = #expect(throws: SocketError.self) { try Listener(host: "192.0.2.1", port: 0) }
        #expect(error?.code == .addressNotAvailable)
    }

    @Test(arguments: ["", "no such host", "nul\0.example", "300.1.1.1", "-"])
    func aHostThatMeansNothingIsUnresolvable(_ host: String) {
        let error = #expect(throws: SocketError.self) { try SocketAddress.resolve(host, port: 1) }
        #expect(error?.code == .unresolvable)
    }

    @Test func aConnectionThatIsNotAnsweredEndsAtTheDeadline() throws {
        // With a full queue the kernel drops what comes and answers nothing.
        let listener = try Listener(host: "127.0.0.1", port: 0, backlog: 0)
        var waiting: [StreamSocketBox] = []
        var failure: SocketError?
        for _ in 0..<64 where failure == nil {
            do {
                let socket = try StreamSocket.connect(to: listener.address, until: .after(.milliseconds(100)))
                waiting.append(StreamSocketBox(socket))
            } catch {
                failure = error
            }
        }
        #expect(failure?.code == .timedOut, "\(String(describing: failure)) after \(waiting.count) connections")
    }

    @Test func aPairOfMessageSocketsKeepsMessagesApart() throws {
        var pair = try DescriptorPair.sockets(.messages)
        let first = pair.takeFirst()
        let second = pair.takeSecond()
        try DescriptorIO.write([1], to: first.rawValue)
        try DescriptorIO.write([2, 3], to: first.rawValue)
        #expect(try DescriptorIO.read(second.rawValue, limit: 10, until: soon()) == [1])
        #expect(try DescriptorIO.read(second.rawValue, limit: 10, until: soon()) == [2, 3])
    }

    @Test func aWaitForAnEventAndADescriptorTellsWhichCame() throws {
        var pair = try DescriptorPair.pipe()
        let reader = pair.takeFirst()
        let writer = pair.takeSecond()
        let event = try EventDescriptor()
        func wait(_ deadline: Deadline) throws -> DescriptorIO.WaitOutcome {
            try DescriptorIO.wait(for: .readable, on: reader.rawValue, interruptedBy: event, until: deadline)
        }
        #expect(try wait(.after(.milliseconds(5))) == .timedOut)
        try DescriptorIO.write([1], to: writer.rawValue)
        #expect(try wait(soon()) == .ready)
        event.signal()
        #expect(try wait(soon()) == .interrupted)
    }

    @Test func aPipeIsReadToItsEndAndNoFurtherThanTheLimit() throws {
        var pair = try DescriptorPair.pipe()
        let reader = pair.takeFirst()
        do {
            let writer = pair.takeSecond()
            try DescriptorIO.write([UInt8](repeating: 7, count: 5000), to: writer.rawValue)
        }
        #expect(try DescriptorIO.readToEnd(reader.rawValue, limit: 5000, until: soon()).count == 5000)
        var other = try DescriptorPair.pipe()
        let end = other.takeFirst()
        let start = other.takeSecond()
        try DescriptorIO.write([UInt8](repeating: 7, count: 5001), to: start.rawValue)
        #expect(throws: SystemCallError.self) { try DescriptorIO.readToEnd(end.rawValue, limit: 5000, until: soon()) }
        let error = #expect(throws: SystemCallError.self) {
            while true { _ = try DescriptorIO.read(end.rawValue, limit: 4096, until: .after(.milliseconds(5))) }
        }
        #expect(error?.errno == .timedOut)
    }
}

/// Carries a socket, which cannot be copied, where it has to be held by reference.
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
