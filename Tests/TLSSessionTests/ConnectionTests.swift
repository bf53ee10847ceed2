// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import TLSSession
internal import TestSupport
internal import Testing

@Suite("Connection", .serialized, .timeLimit(.minutes(5)))
struct ConnectionTests {
    // MARK: - Ends of a connection

    @Test func aGoodbyeIsACleanEnd() throws {
        let ends = try Ends.connected()
        try ends.server.writeFully([1, 2, 3], until: soon())
        ends.server.close()
        #expect(try ends.client.readFully(count: 3, until: soon()) == [1, 2, 3])
        #expect(try ends.client.readOnce().outcome == .closed)
        #expect(try ends.client.readOnce().outcome == .closed, "and stays one")
        let error = try #require(throws: TLSError.self) { try ends.client.readFully(count: 1, until: soon()) }
        #expect(error.code == .closed)
        #expect(error.isConnectionLoss)
    }

    @Test func anEndWithoutGoodbyeIsATruncation() throws {
        var server: TLSConnection?
        let client: TLSConnection
        do {
            let ends = try Ends.connected()
            (server, client) = (ends.server, ends.client)
        }
        try server?.writeFully([1, 2, 3], until: soon())
        server = nil
        #expect(try client.readFully(count: 3, until: soon()) == [1, 2, 3])
        #expect(try client.readOnce().outcome == .truncated)
        #expect(client.descriptor >= 0)
    }

    @Test func readFullyTellsATruncation() throws {
        var server: TLSConnection?
        let client: TLSConnection
        do {
            let ends = try Ends.connected()
            (server, client) = (ends.server, ends.client)
        }
        try server?.writeFully([1], until: soon())
        server = nil
        let error = try #require(throws: TLSError.self) { try client.readFully(count: 2, until: soon()) }
        #expect(error.code == .truncated)
        #expect(error.isConnectionLoss)
        #expect(error.exitCode == 75)
    }

    @Test func aResetIsNeitherOfBoth() throws {
        var server: TLSConnection?
        let client: TLSConnection
        do {
            let ends = try Ends.overTCP()
            try ends.shakeHands()
            (server, client) = (ends.server, ends.client)
        }
        // TCP resets a connection that is closed with unread bytes.
        try client.writeFully([1, 2, 3], until: soon())
        let arrived = try DescriptorIO.wait(for: .readable, on: server?.descriptor ?? -1, until: soon())
        #expect(arrived)
        server = nil
        let error = try #require(throws: TLSError.self) { try client.readFully(count: 1, until: soon()) }
        #expect(error.code == .reset, "\(error)")
        #expect(error.cause?.errno == .connectionReset)
        #expect(error.isConnectionLoss)
    }

    @Test func aWriteToAClosedConnectionIsAnErrorAndNoSignal() async {
        await #expect(processExitsWith: .success) {
            var server: TLSConnection?
            let client: TLSConnection
            do {
                let ends = try Ends.connected()
                (server, client) = (ends.server, ends.client)
            }
            server = nil
            let error = #expect(throws: TLSError.self) {
                for _ in 0..<3 { try client.writeFully([UInt8](repeating: 0, count: 1 << 20), until: soon()) }
            }
            #expect(error?.code == .reset, "\(String(describing: error))")
            _ = server
        }
    }

    @Test func afterCloseNothingIsReadOrWritten() throws {
        let ends = try Ends.connected()
        try ends.client.writeFully([1], until: soon())
        ends.server.close()
        ends.server.close()
        #expect(ends.server.descriptor == -1)
        #expect(try ends.server.readOnce().outcome == .closed)
        #expect(throws: TLSError.self) { try ends.server.writeFully([1], until: soon()) }
    }

    // MARK: - Bytes that were touched on their way

    @Test func aStreamThatIsCutAnywhereIsNeverCleanlyClosed() throws {
        // Ciphertext of two records and a goodbye: cut off after each of its bytes but the last.
        for cut in 0..<89 {
            let wire = try Wire()
            try wire.server.writeFully([UInt8](repeating: 5, count: 20), until: soon())
            try wire.server.writeFully([6], until: soon())
            wire.server.close()
            let sent = try wire.takeFromServer()
            try #require(sent.count == 89)
            try wire.giveToClient(Array(sent[..<cut]))
            wire.endClientsInput()
            var outcome: TLSConnection.ReadOutcome
            repeat { outcome = try wire.client.readOnce().outcome } while outcome.isBytes
            #expect(outcome == .truncated, "cut after \(cut) of \(sent.count) bytes")
        }
    }

    @Test func theSameStreamUncutIsCleanlyClosed() throws {
        let wire = try Wire()
        try wire.server.writeFully([5], until: soon())
        wire.server.close()
        try wire.giveToClient(wire.takeFromServer())
        wire.endClientsInput()
        #expect(try wire.client.readOnce().bytes == [5])
        #expect(try wire.client.readOnce().outcome == .closed)
    }

    @Test func aChangedByteIsNeverDelivered() throws {
        for position in [0, 3, 5, 10, 25, 40] {
            let wire = try Wire()
            try wire.server.writeFully([UInt8](repeating: 5, count: 20), until: soon())
            var sent = try wire.takeFromServer()
            sent[position] ^= 0x01
            try wire.giveToClient(sent)
            wire.endClientsInput()
            var bytes: [UInt8] = []
            do throws(TLSError) {
                let (outcome, some) = try wire.client.readOnce()
                bytes = some
                // A longer length makes the record end after the stream.
                #expect(outcome == .truncated, "changed byte \(position): \(outcome)")
            } catch {
                #expect([.protocolViolation, .truncated].contains(error.code), "changed byte \(position): \(error)")
            }
            #expect(bytes.isEmpty)
        }
    }

    @Test func recordsThatAreReplayedAreNotDelivered() throws {
        let wire = try Wire()
        try wire.server.writeFully([5], until: soon())
        let sent = try wire.takeFromServer()
        try wire.giveToClient(sent + sent)
        #expect(try wire.client.readOnce().bytes == [5])
        let error = try #require(throws: TLSError.self) { try wire.client.readOnce() }
        #expect(error.code == .protocolViolation)
    }

    // MARK: - Waiting

    @Test func nothingToReadIsSaidAtOnce() throws {
        let ends = try Ends.connected()
        #expect(try ends.client.readOnce().outcome == .wouldBlock(.readable))
        #expect(try ends.server.readOnce().outcome == .wouldBlock(.readable))
    }

    @Test func aFullSocketIsSaidAtOnceAndNothingIsLostOrDoubled() throws {
        let ends = try Ends.connected()
        let buffer = try TransferBuffer(capacity: 1 << 20)
        buffer.withMutableBytes(0..<1 << 20) { bytes in
            for index in 0..<1 << 20 { bytes[index] = UInt8(truncatingIfNeeded: index &* 31 &+ index >> 8) }
        }
        var sent = 0
        var received = 0
        var wasFull = false
        let room = try TransferBuffer(capacity: 1 << 20)
        while received < 1 << 20 {
            if sent < 1 << 20 {
                switch try ends.server.write(from: buffer, at: sent, count: (1 << 20) - sent) {
                case .bytes(let count): sent += count
                case .wouldBlock(let direction):
                    #expect(direction == .writable)
                    wasFull = true
                }
            }
            guard wasFull || sent == 1 << 20 else { continue }
            switch try ends.client.read(into: room, at: received, count: (1 << 20) - received) {
            case .bytes(let count): received += count
            case .wouldBlock: break
            case .closed, .truncated: throw TestFailure("the connection ended")
            }
        }
        #expect(wasFull)
        let same = buffer.withBytes(0..<1 << 20) { first in
            room.withBytes(0..<1 << 20) { second in (0..<1 << 20).allSatisfy { first[$0] == second[$0] } }
        }
        #expect(same)
        #expect(try ends.client.readOnce().outcome == .wouldBlock(.readable))
    }

    @Test func readsAndWritesEndAtTheirDeadline() throws {
        let ends = try Ends.connected()
        let reading = try #require(throws: TLSError.self) {
            try ends.client.readFully(count: 1, until: .after(.milliseconds(20)))
        }
        #expect(reading.code == .timedOut)
        let writing = try #require(throws: TLSError.self) {
            for _ in 0..<1000 {
                try ends.client.writeFully([UInt8](repeating: 1, count: 1 << 20), until: .after(.milliseconds(20)))
            }
        }
        #expect(writing.code == .timedOut)
    }

    @Test func anEventEndsAWaitAndTheConnectionGoesOn() throws {
        let ends = try Ends.connected()
        let stop = try EventDescriptor()
        ends.client.interruption = stop
        let thread = try NamedThread("stopper") { stop.signal() }
        let error = try #require(throws: TLSError.self) { try ends.client.readFully(count: 1, until: soon()) }
        #expect(error.code == .interrupted)
        thread.join()
        stop.drain()
        try ends.server.writeFully([9], until: soon())
        #expect(try ends.client.readFully(count: 1, until: soon()) == [9])
    }

    @Test func bytesThatWaitInsideAreReadWithoutThePoller() throws {
        let ends = try Ends.connected()
        try ends.server.writeFully([UInt8](repeating: 1, count: 100), until: soon())
        try ends.server.writeFully([UInt8](repeating: 2, count: 100), until: soon())
        let buffer = try TransferBuffer(capacity: 4096)
        #expect(try ends.client.read(into: buffer, at: 0, count: 10) == .bytes(10))
        #expect(ends.client.pending == 90)
        #expect(ends.client.hasBufferedBytes)
        // Both records came with one read of the socket, which has nothing more to say.
        #expect(try !DescriptorIO.wait(for: .readable, on: ends.client.descriptor, until: .immediate))
        #expect(
            try ends.client.readFully(count: 190, until: soon()) == [UInt8](repeating: 1, count: 90)
                + [UInt8](repeating: 2, count: 100)
        )
        #expect(!ends.client.hasBufferedBytes)
    }

    @Test func whetherTheNextReadFindsBytesIsToldByWhatHasCome() throws {
        let ends = try Ends.connected()
        #expect(!ends.client.nextReadFindsBytes)
        for byte in [1, 2] as [UInt8] { try ends.server.writeFully([byte, byte], until: soon()) }
        // What is still in the socket is not asked for.
        #expect(!ends.client.nextReadFindsBytes)
        #expect(try ends.client.readFully(count: 1, until: soon()) == [1])
        #expect(ends.client.nextReadFindsBytes)
        #expect(try ends.client.readFully(count: 1, until: soon()) == [1])
        // The second record is not decrypted yet.
        #expect(ends.client.pending == 0)
        #expect(ends.client.nextReadFindsBytes)
        #expect(try ends.client.readFully(count: 2, until: soon()) == [2, 2])
        #expect(!ends.client.nextReadFindsBytes)
        ends.server.close()
        #expect(!ends.client.nextReadFindsBytes)
    }

    @Test func whatIsLeftToTheKernelGoesOutWithWhatFollows() throws {
        let ends = try Ends.overTCP()
        try ends.shakeHands()
        let far = Deadline.after(.milliseconds(50))
        ends.server.moreFollows = true
        try ends.server.writeFully([1], until: soon())
        #expect(try !DescriptorIO.wait(for: .readable, on: ends.client.descriptor, until: far), "it waits")
        ends.server.moreFollows = false
        try ends.server.writeFully([2], until: soon())
        #expect(try ends.client.readFully(count: 2, until: soon()) == [1, 2])
    }

    // MARK: - Much

    @Test func muchIsCarriedBothWaysAndEndsCleanly() throws {
        let total = 24 << 20
        let listener = try Listener(host: "127.0.0.1", port: 0)
        let socket = try StreamSocket.connect(to: "127.0.0.1", port: listener.address.port, until: soon())
        let client = try TLSConnection(connected: socket, TLSContext.client(Files.client()), serverName: "127.0.0.1")
        let failures = Lock([String]())
        let echo = try serveOne(listener) { server throws(TLSError) in
            guard let buffer = try? TransferBuffer(capacity: 1 << 18) else { return }
            for _ in 0..<total >> 18 {
                try server.readFully(into: buffer, at: 0, count: 1 << 18, until: soon())
                try server.writeFully(from: buffer, at: 0, count: 1 << 18, until: soon())
            }
            server.close()
        } failed: { text in
            failures.withLock { $0.append(text) }
        }
        try client.handshake(until: soon())
        let out = try TransferBuffer(capacity: 1 << 18)
        let back = try TransferBuffer(capacity: 1 << 18)
        for round in 0..<total >> 18 {
            out.withMutableBytes(0..<1 << 18) { bytes in
                for index in 0..<1 << 12 { bytes[index << 6] = UInt8(truncatingIfNeeded: index &* 7 &+ round) }
            }
            try client.writeFully(from: out, at: 0, count: 1 << 18, until: soon())
            try client.readFully(into: back, at: 0, count: 1 << 18, until: soon())
            let same = out.withBytes(0..<1 << 18) { first in
                back.withBytes(0..<1 << 18) { second in (0..<1 << 12).allSatisfy { first[$0 << 6] == second[$0 << 6] } }
            }
            #expect(same, "round \(round)")
        }
        #expect(throws: TLSError.self) { try client.readFully(count: 1, until: soon()) }
        #expect(try client.readOnce().outcome == .closed)
        echo.join()
        #expect(failures.withLock { $0 } == [])
    }

    /// Accepts one connection here and serves it on a thread of its own, as a page server does.
    private func serveOne(
        _ listener: Listener,
        _ body: @escaping @Sendable (TLSConnection) throws(TLSError) -> Void,
        failed: @escaping @Sendable (String) -> Void
    ) throws -> NamedThread {
        guard try DescriptorIO.wait(for: .readable, on: listener.descriptor, until: soon()),
            let socket = try listener.accept()
        else { throw TestFailure("no connection came") }
        let server = try TLSConnection(accepted: socket, TLSContext.server(Files.server(), allowing: .anyCertified))
        return try NamedThread("serve") {
            do {
                try server.handshake(until: soon())
                try body(server)
            } catch {
                failed("\(error)")
            }
        }
    }

    @Test func oneContextServesManyThreads() throws {
        let server = try TLSContext.server(Files.server(), allowing: .anyCertified)
        let client = try TLSContext.client(Files.client())
        let failures = Lock([String]())
        let good = Lock(0)
        func thread(_ number: Int) throws(SystemCallError) -> NamedThread {
            try NamedThread("pair-\(number)") {
                do {
                    for _ in 0..<5 {
                        let ends = try Ends(server: server, client: client)
                        try ends.shakeHands()
                        try ends.client.writeFully([1, 2], until: soon())
                        guard try ends.server.readFully(count: 2, until: soon()) == [1, 2] else {
                            throw TestFailure("bytes")
                        }
                        good.withLock { $0 += 1 }
                    }
                } catch {
                    failures.withLock { $0.append("\(error)") }
                }
            }
        }
        let (first, second, third, fourth) = (
            try Joined(thread(1)), try Joined(thread(2)), try Joined(thread(3)), try Joined(thread(4))
        )
        for each in [first, second, third, fourth] { each.join() }
        #expect(failures.withLock { $0 } == [])
        #expect(good.withLock { $0 } == 20)
    }

    // MARK: - Descriptors

    @Test func noDescriptorIsLeftOverWhateverHappens() async {
        await #expect(processExitsWith: .success) {
            let server = try TLSContext.server(Files.server(), allowing: AllowList(["destination.example"]))
            let refusing = try TLSContext.server(Files.server(), allowing: AllowList(["other.example"]))
            let client = try TLSContext.client(Files.client())
            func round() throws {
                let ends = try Ends(server: server, client: client)
                try ends.shakeHands()
                ends.client.close()
                // Refused, wrong name, no name at all, left alone in the middle.
                let refused = try Ends(server: refusing, client: client)
                #expect(drive(refused.server, refused.client).0.code == .peerNotAllowed)
                let mistaken = try Ends(server: server, client: client, serverName: "other.example")
                #expect(drive(mistaken.server, mistaken.client).1.code == .peerNameMismatch)
                #expect(throws: TLSError.self) { try Ends(server: server, client: client, serverName: "") }
                let abandoned = try Ends(server: server, client: client)
                #expect(abandoned.client.step() == .pending)
                #expect(abandoned.server.step() == .pending)
                #expect(throws: TLSError.self) { try TLSContext.client(Files.client("expired-client")) }
            }
            // A few descriptors more are the test library's.
            try round()
            let before = try namesInFolder("/proc/self/fd").count
            for _ in 0..<20 { try round() }
            #expect(try namesInFolder("/proc/self/fd").count < before + 10)
            // The count does see descriptors that are not closed.
            let left = try (0..<20).map { _ in try Ends(server: server, client: client) }
            #expect(try namesInFolder("/proc/self/fd").count >= before + 40 - 10)
            #expect(left.count == 20)
        }
    }
}

extension TLSConnection.ReadOutcome {
    fileprivate var isBytes: Bool {
        if case .bytes = self { return true }
        return false
    }
}

/// A thread in an array.
private final class Joined {
    private var thread: NamedThread?

    init(_ thread: consuming NamedThread) {
        self.thread = consume thread
    }

    func join() {
        thread.take()?.join()
    }
}

/// A server and a client with the test between them, who passes their bytes on or does not.
private final class Wire {
    let server: TLSConnection
    let client: TLSConnection
    private let serverEnd: OwnedDescriptor
    private let clientEnd: StreamSocket

    init() throws {
        var first = try DescriptorPair.sockets()
        var second = try DescriptorPair.sockets()
        server = try TLSConnection(
            accepted: StreamSocket(adopting: first.takeFirst()),
            TLSContext.server(Files.server(), allowing: .anyCertified)
        )
        client = try TLSConnection(
            connected: StreamSocket(adopting: second.takeFirst()),
            TLSContext.client(Files.client()),
            serverName: "localhost"
        )
        serverEnd = first.takeSecond()
        clientEnd = try StreamSocket(adopting: second.takeSecond())
        for _ in 0..<10 where server.peer == nil || client.peer == nil {
            if client.peer == nil { _ = try client.continueHandshake() }
            try pass(from: clientEnd.descriptor, to: serverEnd.rawValue)
            if server.peer == nil { _ = try server.continueHandshake() }
            try pass(from: serverEnd.rawValue, to: clientEnd.descriptor)
        }
        guard server.peer != nil && client.peer != nil else { throw TestFailure("the handshake did not end") }
    }

    /// What the server has sent and nobody has taken.
    func takeFromServer() throws -> [UInt8] {
        try taken(from: serverEnd.rawValue)
    }

    func giveToClient(_ bytes: [UInt8]) throws {
        try DescriptorIO.write(bytes, to: clientEnd.descriptor, until: soon())
    }

    func endClientsInput() {
        clientEnd.shutDown()
    }

    private func taken(from descriptor: Int32) throws -> [UInt8] {
        guard try DescriptorIO.wait(for: .readable, on: descriptor, until: .immediate) else { return [] }
        return try DescriptorIO.read(descriptor, limit: 1 << 16, until: soon())
    }

    private func pass(from source: Int32, to sink: Int32) throws {
        try DescriptorIO.write(taken(from: source), to: sink, until: soon())
    }
}
