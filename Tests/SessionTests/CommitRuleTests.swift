// SPDX-License-Identifier: Apache-2.0
import LinuxSystem
import PageWire
import Paging
import ProcessImage
import Reporting
import TestSupport
import Testing

@testable import PageServer

/// Promises 2 and 3 over real connections: what becomes of the process when a destination goes away at any moment.
@Suite(.serialized, .timeLimit(.minutes(5))) struct CommitRuleTests {
    private static let someMemory: FakeMemory = {
        var memory = FakeMemory()
        memory.data.insert(0x100..<0x1c0)
        memory.data.insert(0x7000..<0x7003)
        memory.zero.insert(0x300..<0x345)
        return memory
    }()

    @Test func aRefusedProcessIsNotListenedFor() throws {
        let log = EventLog()
        let refusal = SessionFailure(
            .refused,
            "process 1 has something that cannot be carried",
            details: ["descriptor 5"]
        )
        #expect(throws: TestFailure.self) {
            _ = try ServerUnderTest(FakeProcess(refusal: refusal), within: .seconds(1), log)
        }
        #expect(log.all == [.failed(code: 78, message: refusal.message)])
    }

    @Test func aDestinationThatLeavesBeforeTheFreezeMakesRoomForTheNext() throws {
        let server = try ServerUnderTest()
        try ScriptedDestination(port: server.port).vanish()
        // The first one's end may be noticed after the second one came: it is told to try again.
        try TestSupport.wait(for: "a second session") {
            guard let second = try? ScriptedDestination(port: server.port) else { return false }
            _ = try second.describe()
            second.vanish()
            return true
        }
        let (outcome, statistics) = try server.outcome()
        #expect(outcome.exitStatus == 75)
        #expect(statistics.result == "undone")
        #expect(server.process.done == [.examined, .frozen, .thawed])
    }

    enum Moment: String, CaseIterable {
        case behindDescribe, insideOfTheDescription, behindTheHandOver, byAbort, byWrongMessage, bySilence
    }

    @Test(arguments: Moment.allCases) func beforeTheGrantTheProcessIsThawed(_ moment: Moment) throws {
        let server = try ServerUnderTest(FakeProcess(Self.someMemory)) {
            if moment == .bySilence { $0.buildTimeout = .milliseconds(100) }
        }
        let destination = try ScriptedDestination(port: server.port)
        switch moment {
        case .behindDescribe: try destination.send(.describe([]))
        case .insideOfTheDescription:
            try destination.send(.describe([]))
            _ = try destination.receive()
        case .behindTheHandOver, .bySilence: _ = try destination.describe()
        case .byAbort:
            _ = try destination.describe()
            try destination.send(.abort(code: 78, text: "id 7 is taken"))
        case .byWrongMessage:
            _ = try destination.describe()
            try destination.send(.running)
        }
        if moment != .bySilence { destination.vanish() }
        let (outcome, statistics) = try server.outcome()
        switch moment {
        case .byWrongMessage: #expect(outcome.exitStatus == 76)
        case .behindDescribe, .insideOfTheDescription, .behindTheHandOver, .byAbort, .bySilence:
            #expect(outcome.exitStatus == 75)
        }
        #expect(outcome.failure?.message.contains("process 1 runs on") == true)
        #expect(statistics.pause == nil)
        #expect(server.process.done == [.examined, .frozen, .thawed])
        #expect(!server.events.all.contains(.granted))
    }

    @Test func aFreezeThatIsRefusedLeavesTheProcessRunning() throws {
        let refusal = SessionFailure(.refused, "process 1 has a socket now")
        let server = try ServerUnderTest(FakeProcess(freezeRefusal: refusal))
        let destination = try ScriptedDestination(port: server.port)
        try destination.send(.describe([]))
        guard case .abort(let code, let text) = try destination.receive() else { throw TestFailure("no abort") }
        #expect(code == 78)
        #expect(text == refusal.message)
        #expect(try server.outcome().outcome.exitStatus == 78)
        #expect(server.process.done == [.examined])
    }

    @Test func theGrantIsRecordedBeforeItIsSent() throws {
        var memory = Self.someMemory
        memory.guards = [AddressRange(VirtualAddress(0x5000), VirtualAddress(0x7000))]
        let server = try ServerUnderTest(FakeProcess(memory))
        let destination = try ScriptedDestination(port: server.port)
        let guards = try destination.reachGrant()
        #expect(server.process.done == [.examined, .frozen, .committed])
        #expect(guards == [PageRun(address: VirtualAddress(0x5000), count: 2)])
        destination.vanish()
        _ = try server.outcome()
    }

    enum LateMoment: CaseIterable {
        case behindTheGrant, behindRunning, byAbort, byWrongMessage, byWrongCount, byWrongDigest, byEarlyComplete
    }

    @Test(arguments: LateMoment.allCases) func behindTheGrantTheProcessStaysFrozen(_ moment: LateMoment) throws {
        let memory = Self.someMemory
        let server = try ServerUnderTest(FakeProcess(memory))
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        _ = try destination.reachGrant()
        if moment != .behindTheGrant { try destination.send(.running) }
        var digest = PageDigest()
        let tally = PageTally(memory.digest)
        switch moment {
        case .behindTheGrant, .behindRunning: break
        case .byAbort: try destination.send(.abort(code: 71, text: "a bug"))
        case .byWrongMessage: try destination.send(.built)
        case .byWrongCount:
            _ = try destination.drain(into: &digest)
            try destination.send(.complete(PageTally(pages: tally.pages - 1, high: tally.high, low: tally.low)))
        case .byWrongDigest:
            _ = try destination.drain(into: &digest)
            try destination.send(.complete(PageTally(pages: tally.pages, high: tally.high, low: tally.low ^ 1)))
        case .byEarlyComplete: try destination.send(.complete(PageTally(pages: 0, high: 0, low: 0)))
        }
        if [.byWrongCount, .byWrongDigest].contains(moment) {
            guard case .abort(76, _) = try destination.receive() else { throw TestFailure("no abort") }
        }
        destination.vanish()
        let (outcome, statistics) = try server.outcome()
        #expect(outcome.exitStatus == 74)
        #expect(outcome.failure?.message.contains("kill -CONT 1") == true)
        #expect(statistics.result == "interrupted")
        #expect(server.process.done == [.examined, .frozen, .committed, .leftStopped])
        #expect(server.events.all.contains(.lost))
        #expect(!server.events.all.contains { if case .complete = $0 { true } else { false } })
    }

    @Test(arguments: CompletionAction.allCases) func anEqualCompleteDisposes(_ action: CompletionAction) throws {
        let memory = Self.someMemory
        let server = try ServerUnderTest(FakeProcess(memory)) { $0.onComplete = action }
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        _ = try destination.reachGrant()
        try destination.send(.running)
        var digest = PageDigest()
        let map = try destination.drain(into: &digest)
        #expect(map == memory.existing)
        #expect(digest == memory.digest)
        try destination.send(.complete(PageTally(digest)))
        guard case .acknowledged = try destination.receive() else { throw TestFailure("not acknowledged") }
        let (outcome, statistics) = try server.outcome()
        #expect(outcome == Outcome())
        let end: FakeProcess.Deed =
            switch action {
            case .kill: .killed
            case .stop: .leftStopped
            case .continue: .continued
            }
        #expect(server.process.done == [.examined, .frozen, .committed, end])
        let tally = PageTally(digest)
        #expect(server.events.all.last == .complete(pages: tally.pages, digest: tally.digest))
        #expect(statistics.result == "complete")
        #expect(statistics.pages.total == memory.existing.count)
        #expect(statistics.pages.zero == memory.zero.count)
        #expect(statistics.pages.demanded == 0)
        #expect(statistics.pause != nil && statistics.timeToResident != nil)
        #expect(statistics.tlsVersion == "TLSv1.3")
        #expect(statistics.bytesSent > memory.data.count * 4096)
        // Pages of zeros cost no bytes.
        #expect(statistics.bytesSent < (memory.data.count + 8) * 4096 + (3 << 20))
    }

    @Test func pagesComeOnDemandBeforeAndBehindTheGrant() throws {
        let memory = Self.someMemory
        let server = try ServerUnderTest(FakeProcess(memory))
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        _ = try destination.describe()
        var digest = PageDigest()
        var seen = PageSet()
        func take(_ page: UInt64, count: UInt32, expecting kinds: [FrameKind]) throws {
            let answers = try destination.fetch(page, count: count, request: page)
            #expect(answers.map(\.frame.kind) == kinds)
            for (frame, bytes) in answers {
                #expect(frame.request == page)
                for index in 0..<UInt64(frame.count) where frame.kind != .absentPages {
                    let number = frame.address.rawValue >> 12 + index
                    guard seen.insert(number) else { continue }
                    let address = VirtualAddress(number << 12)
                    guard frame.kind == .pages else {
                        digest.addZeros(address: address)
                        continue
                    }
                    let content = Array(bytes[Int(index) * 4096..<Int(index + 1) * 4096])
                    #expect(content == FakeMemory.bytes(of: number))
                    digest.add(address: address, page: content.span)
                }
            }
        }
        try take(0x100, count: 1, expecting: [.pages])
        try take(0x300, count: 1, expecting: [.zeroPages])
        try take(0x9000, count: 1, expecting: [.absentPages])
        // Data, then a hole: one answer each.
        try take(0x1be, count: 4, expecting: [.pages, .absentPages])
        try destination.send(.built)
        guard case .grant = try destination.receive() else { throw TestFailure("no grant") }
        try destination.send(.running)
        try take(0x100, count: 64, expecting: [.pages])
        try take(0x7000, count: 3, expecting: [.pages])
        _ = try destination.drain(into: &digest, without: seen)
        #expect(digest == memory.digest)
        try destination.send(.complete(PageTally(digest)))
        guard case .acknowledged = try destination.receive() else { throw TestFailure("not acknowledged") }
        #expect(try server.outcome().outcome == Outcome())
        #expect(server.process.done.last == .killed)
    }

    /// A walk that meets the stream does not get its pages twice; who waits for one gets it.
    @Test func whatIsOnItsWayIsNotSentTwice() throws {
        let server = try ServerUnderTest(FakeProcess(Self.someMemory))
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        _ = try destination.describe()
        func kinds(expected: UInt32) throws -> [FrameKind] {
            try destination.fetch(0x100, count: 8, expected: expected).map(\.frame.kind)
        }
        // Before the freeze is over nothing streams.
        #expect(try kinds(expected: 7) == [.pages])
        try destination.send(.built)
        guard case .grant = try destination.receive() else { throw TestFailure("no grant") }
        try destination.send(.running)
        var digest = PageDigest()
        var seen = PageSet()
        seen.insert(0x100..<0x108)
        _ = try destination.drain(into: &digest, without: seen)
        // These came as answers, not by the stream.
        #expect(try kinds(expected: 8) == [.pages])
        let around = try destination.fetch(0x106, count: 8, expected: 5)
        #expect(around.map(\.frame.kind) == [.pages, .sentPages])
        #expect(around.map(\.frame.count) == [3, 5])
        #expect(around.map(\.frame.remaining) == [5, 0])
        #expect(try destination.fetch(0x110, count: 8, expected: 8).map(\.frame.kind) == [.sentPages])
        #expect(try destination.fetch(0x110, count: 8).map(\.frame.kind) == [.pages])
    }

    @Test func everythingComesBeforeTheGrantWhenTheDestinationWantsIt() throws {
        let memory = Self.someMemory
        let server = try ServerUnderTest(FakeProcess(memory))
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        _ = try destination.describe(.eager)
        var digest = PageDigest()
        _ = try destination.drain(into: &digest)
        #expect(digest == memory.digest)
        #expect(server.process.done == [.examined, .frozen])
        destination.vanish()
        #expect(try server.outcome().outcome.exitStatus == 75)
        #expect(server.process.done == [.examined, .frozen, .thawed])
    }

    @Test func eagerPagesAreCounted() throws {
        var first = EagerPages()
        first.address = 0x10000
        first.bytes = FakeMemory.bytes(of: 1) + FakeMemory.bytes(of: 2)
        var second = EagerPages()
        second.target = .sharedObject
        second.bytes = [1, 2, 3]
        let server = try ServerUnderTest(FakeProcess(eager: [first, second]))
        let destination = try ScriptedDestination(port: server.port)
        let (description, tally) = try destination.describe()
        #expect(description == [UInt8](repeating: 0x5a, count: 3 << 20))
        #expect(tally.pages == 3)
        destination.vanish()
        #expect(try server.outcome().statistics.pages.eager == 3)
    }
}
