// SPDX-License-Identifier: Apache-2.0
import FrameTransport
import Glibc
import LinuxSystem
import PageWire
import Paging
import Reporting
import TLSSession
import TestSupport
import Testing

@testable import LazyRestore
@testable import PageServer

/// Promise 6 against destinations that are certified and misbehave: each loses its connection, and nobody else notices.
@Suite(.serialized, .timeLimit(.minutes(2))) struct HostilePeerTests {
    private static let memory: FakeMemory = {
        var memory = FakeMemory()
        memory.data.insert(0x100..<0x200)
        memory.zero.insert(0x300..<0x320)
        return memory
    }()

    /// Bytes where a frame should be.
    struct Junk: Sendable, CustomTestStringConvertible {
        let name: String
        let bytes: [UInt8]

        var testDescription: String { name }
    }

    private static func header(_ kind: UInt8, length: UInt32, padding: UInt8 = 0, request: UInt64 = 0) -> [UInt8] {
        littleEndian(UInt64(length), 4) + [kind, padding, 0, 0] + littleEndian(request, 8)
    }

    private static func request(address: UInt64, count: UInt32, length: UInt32 = 32) -> [UInt8] {
        header(FrameKind.requestPages.rawValue, length: length, request: 1) + littleEndian(address, 8)
            + littleEndian(UInt64(count), 4) + [UInt8](repeating: 0, count: 20)
    }

    private static func littleEndian(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
    }

    /// What no connection of pages takes.
    private static let pageJunk = [
        Junk(name: "an unknown kind", bytes: header(0xfe, length: 16) + [UInt8](repeating: 0, count: 16)),
        Junk(name: "a length of 4 GiB", bytes: header(FrameKind.requestPages.rawValue, length: .max)),
        Junk(name: "a length of nothing", bytes: header(FrameKind.requestPages.rawValue, length: 0)),
        Junk(name: "padding", bytes: header(FrameKind.requestPages.rawValue, length: 32, padding: 1)),
        Junk(name: "no pages", bytes: request(address: 0x100000, count: 0)),
        Junk(name: "too many pages", bytes: request(address: 0x100000, count: PageProtocol.maximumPages + 1)),
        Junk(name: "four billion pages", bytes: request(address: 0x100000, count: .max)),
        Junk(name: "an address inside of a page", bytes: request(address: 0x100001, count: 1)),
        Junk(name: "pages that nobody asked for", bytes: header(FrameKind.pages.rawValue, length: 32)),
        Junk(name: "a grant", bytes: Message.grant(guards: []).encoded()),
        Junk(name: "a second greeting", bytes: Message.hello(connection: .fault, session: .none).encoded()),
        Junk(name: "another protocol", bytes: Array("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8)),
    ]

    /// A destination in order, and the pages that it has asked for.
    private final class Destination {
        let script: ScriptedDestination
        let port: UInt16
        private(set) var digest = PageDigest()
        private var seen = PageSet()

        init(port: UInt16) throws {
            self.port = port
            script = try ScriptedDestination(port: port)
        }

        func demand(_ page: UInt64) throws {
            let answers = try script.fetch(page)
            let bytes = FakeMemory.bytes(of: page)
            guard answers.count == 1, answers[0].frame.kind == .pages, answers[0].bytes == bytes else {
                throw TestFailure("page \(page) came as \(answers.map(\.frame))")
            }
            if seen.insert(page) { digest.add(address: VirtualAddress(page << 12), page: bytes.span) }
        }

        func open(_ kind: ConnectionKind) throws -> FrameChannel {
            try script.link.open(kind, session: script.session).channel
        }

        func drain() throws -> PageSet {
            try script.drain(into: &digest, without: seen)
        }
    }

    /// Serves a destination to its end, whatever happens before the stream.
    private func serving(_ body: (Destination) throws -> Void) throws {
        let server = try ServerUnderTest(FakeProcess(Self.memory))
        let destination = try Destination(port: server.port)
        try body(destination)
        #expect(try destination.drain() == Self.memory.existing)
        #expect(destination.digest == Self.memory.digest)
        try destination.script.send(.complete(PageTally(destination.digest)))
        guard case .acknowledged = try destination.script.receive() else { throw TestFailure("not acknowledged") }
        #expect(try server.outcome().outcome == Outcome())
        #expect(server.process.done == [.examined, .frozen, .committed, .killed])
    }

    /// The same, from the grant on.
    private func servingGranted(_ body: (Destination) throws -> Void) throws {
        try serving { destination in
            try destination.script.openPageConnections()
            _ = try destination.script.reachGrant()
            try body(destination)
        }
    }

    /// Whether the page server has ended the connection; what it still sends is thrown away.
    private func isEnded(_ channel: FrameChannel) throws -> Bool {
        let deadline = Deadline.after(patience)
        while !deadline.hasPassed {
            do {
                _ = try channel.receive(until: deadline)
            } catch ChannelError.timedOut {
                return false
            } catch {
                return true
            }
        }
        return false
    }

    @Test(arguments: pageJunk) func junkEndsAFaultConnectionAndNothingElse(junk: Junk) throws {
        try servingGranted { destination in
            let hostile = try destination.open(.fault)
            try hostile.connection.writeFully(junk.bytes, until: .after(patience))
            #expect(try isEnded(hostile))
            try destination.demand(0x180)
        }
    }

    @Test func aFrameThatIsCutOffEndsItsConnection() throws {
        let whole = Self.request(address: 0x100000, count: 1)
        try servingGranted { destination in
            for length in [1, 15, 16, 17, 31] {
                let hostile = try destination.open(.fault)
                try hostile.connection.writeFully(Array(whole[..<length]), until: .after(patience))
                hostile.connection.close()
            }
            try destination.demand(0x180)
        }
    }

    @Test func askingForWhatIsNotThereTellsNothing() throws {
        try servingGranted { destination in
            for page: UInt64 in [0, 1, 0x0ff, 0x200, 0x320, 0x7_ffff_ffef, 0xf_ffff_ffff_f000] {
                let answers = try destination.script.fetch(page)
                #expect(answers.map(\.frame.kind) == [.absentPages] && answers.allSatisfy(\.bytes.isEmpty), "\(page)")
            }
        }
    }

    @Test func askingAgainAndAgainCountsOnce() throws {
        try servingGranted { destination in
            for _ in 0..<200 {
                let answer = try #require(try destination.script.fetch(0x7ffff0, count: 1).first)
                #expect(answer.frame.kind == .absentPages)
            }
        }
    }

    @Test func thereAreNoMoreConnectionsThanAllowed() throws {
        try servingGranted { destination in
            var more: [FrameChannel] = []
            for _ in 1..<SessionTable.maximumConnections {
                more.append(try destination.open(.fault))
            }
            let error = #expect(throws: SessionFailure.self) {
                _ = try destination.open(.fault)
            }
            #expect(error?.code == .peer)
            #expect(more.count == SessionTable.maximumConnections - 1)
        }
    }

    /// Requests without end whose answers nobody reads: the other connections of the session go on, and memory does not grow.
    @Test func aFloodThatIsNotReadIsHeldBack() throws {
        try servingGranted { destination in
            let hostile = try destination.open(.fault)
            let flood = (0..<512).flatMap { _ in Self.request(address: 0x100000, count: 64) }
            let before = try residentKilobytes()
            // Some hundred megabytes of answers are asked for; the page server stops reading long before.
            var asked = 0
            do {
                for _ in 0..<4096 {
                    try hostile.connection.writeFully(flood, until: .after(.milliseconds(300)))
                    asked += 512
                }
            } catch {
                // Full: that is the point.
            }
            #expect(asked < 512 * 4096)
            #expect(try residentKilobytes() < before + (16 << 10))
            for page: UInt64 in 0x100..<0x140 { try destination.demand(page) }
            hostile.connection.close()
        }
    }

    /// What a control connection does not take, at whatever time.
    private static let controlJunk = [
        Junk(name: "an unknown kind", bytes: header(0xfe, length: 16) + [UInt8](repeating: 0, count: 16)),
        Junk(name: "a length of 4 GiB", bytes: header(FrameKind.describe.rawValue, length: .max)),
        Junk(name: "padding", bytes: header(FrameKind.ping.rawValue, length: 0, padding: 1)),
        Junk(name: "an option that does not exist", bytes: changed(Message.describe([]).encoded(), at: 16, to: 0x80)),
        Junk(name: "a page map", bytes: Message.pageMap(runs: [], isLast: true).encoded()),
        Junk(name: "a request for pages", bytes: request(address: 0x100000, count: 1)),
        Junk(name: "an acknowledgement", bytes: Message.acknowledged.encoded()),
        Junk(name: "a second greeting", bytes: Message.hello(connection: .control, session: .none).encoded()),
        Junk(name: "another protocol", bytes: Array("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".utf8)),
    ]

    private static func changed(_ bytes: [UInt8], at index: Int, to value: UInt8) -> [UInt8] {
        var bytes = bytes
        bytes[index] = value
        return bytes
    }

    /// Before the freeze the peer is turned away, and the next one is served.
    @Test(arguments: controlJunk) func junkBeforeTheFreezeMakesRoomForTheNext(junk: Junk) throws {
        let server = try ServerUnderTest(FakeProcess(Self.memory))
        let hostile = try ScriptedDestination(port: server.port)
        try hostile.control.connection.writeFully(junk.bytes, until: .after(patience))
        #expect(try isEnded(hostile.control))
        #expect(server.process.done == [.examined])
        var next: ScriptedDestination?
        try TestSupport.wait(for: "room for the next destination") {
            next = try? ScriptedDestination(port: server.port)
            return next != nil
        }
        try #require(next).openPageConnections()
        _ = try #require(next).reachGrant()
        #expect(server.process.done == [.examined, .frozen, .committed])
        next?.vanish()
        _ = try server.outcome()
    }

    /// Behind the grant the process is neither continued nor ended, whatever its destination says.
    @Test(arguments: controlJunk) func junkBehindTheGrantDoesNotFreeTheProcess(junk: Junk) throws {
        let server = try ServerUnderTest(FakeProcess(Self.memory))
        let hostile = try ScriptedDestination(port: server.port)
        try hostile.openPageConnections()
        _ = try hostile.reachGrant()
        try hostile.control.connection.writeFully(junk.bytes, until: .after(patience))
        #expect(try isEnded(hostile.control))
        hostile.vanish()
        #expect(try server.outcome().outcome.exitStatus == 74)
        #expect(server.process.done == [.examined, .frozen, .committed, .leftStopped])
    }

    /// A thousand strangers that say nothing, nonsense, or the beginning of a handshake byte by byte, while pages are served.
    @Test func aCrowdOfStrangersSlowsNobodyDown() throws {
        try servingGranted { destination in
            try destination.demand(0x100)
            let threads = try namesInFolder("/proc/self/task").count
            let before = try residentKilobytes()
            let crowd = Crowd()
            for number in 0..<1000 {
                try crowd.come(destination.port, saying: number)
                if number % 100 == 99 { try destination.demand(0x100 + UInt64(number / 10)) }
            }
            #expect(try namesInFolder("/proc/self/task").count <= threads + Acceptor.maximumGreetings + 8)
            #expect(try residentKilobytes() < before + (64 << 10))
            crowd.leave()
            try TestSupport.wait(for: "the threads of strangers to end") {
                try namesInFolder("/proc/self/task").count <= threads
            }
        }
    }

    private func residentKilobytes() throws -> Int {
        try memoryKilobytes("VmRSS", of: getpid())
    }
}

/// Connections of strangers, held open.
private final class Crowd {
    private final class Stranger {
        let socket: StreamSocket
        init(_ socket: consuming StreamSocket) { self.socket = socket }
    }

    private var strangers: [Stranger] = []

    init() {
        // Some are turned away while they speak.
        signal(SIGPIPE, SIG_IGN)
    }

    /// One more: silent, loud, or with the first bytes of a TLS record and a byte more of it now and then.
    func come(_ port: UInt16, saying number: Int) throws {
        let stranger = Stranger(try .connect(to: "127.0.0.1", port: port, until: .after(patience)))
        switch number % 3 {
        case 1: try DescriptorIO.write(Array("EHLO localhost\r\n".utf8), to: stranger.socket.descriptor)
        case 2: try DescriptorIO.write([0x16, 0x03, 0x01, 0x02, 0x00], to: stranger.socket.descriptor)
        default: break
        }
        // Those that were turned away are told by an error, which is no news here.
        for other in strangers.suffix(8) { try? DescriptorIO.write([0x01], to: other.socket.descriptor) }
        strangers.append(stranger)
        // The descriptors of both ends are this program's.
        if strangers.count > 256 { strangers.removeFirst(128) }
    }

    func leave() { strangers = [] }
}
