// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import TestSupport
internal import Testing

@Suite("Poller", .serialized, .timeLimit(.minutes(5)))
struct PollerTests {
    @Test func aReadyDescriptorIsReportedUnderItsTokenAsLongAsItIsReady() throws {
        let (quiet, loud) = (try EventDescriptor(), try EventDescriptor())
        let poller = try Poller()
        try poller.add(quiet.descriptor, token: 1)
        try poller.add(loud.descriptor, token: .max)
        loud.signal()
        for _ in 0..<2 {
            #expect(try poller.wait(until: soon()) == 1)
            #expect(poller[0].token == .max && poller[0].readiness == .readable)
        }
        loud.drain()
        #expect(try poller.wait(until: .immediate) == 0)
    }

    @Test func moreEventsThanRoomComeWithTheNextWait() throws {
        let events = try (0..<5).map { _ in try EventDescriptor() }
        let poller = try Poller(capacity: 2)
        for (index, event) in events.enumerated() {
            try poller.add(event.descriptor, token: UInt64(index))
            event.signal()
        }
        var seen: Set<UInt64> = []
        while seen.count < 5 {
            let count = try poller.wait(until: soon())
            #expect((1...2).contains(count))
            for index in 0..<count {
                seen.insert(poller[index].token)
                events[Int(poller[index].token)].drain()
            }
        }
        #expect(try poller.wait(until: .immediate) == 0)
    }

    @Test func theInterestCanChangeAndEnd() throws {
        var pair = try DescriptorPair.sockets()
        let mine = pair.takeFirst()
        let other = pair.takeSecond()
        let poller = try Poller()
        try poller.add(mine.rawValue, token: 3)
        #expect(try poller.wait(until: .immediate) == 0)
        try poller.change(mine.rawValue, token: 4, for: [.readable, .writable])
        #expect(try poller.wait(until: soon()) == 1)
        #expect(poller[0].token == 4 && poller[0].readiness == .writable)
        try poller.change(mine.rawValue, token: 4, for: [])
        #expect(try poller.wait(until: .immediate) == 0)
        try poller.remove(mine.rawValue)
        _ = other.release()
    }

    @Test func theOtherSidesEndIsReported() throws {
        var pair = try DescriptorPair.sockets()
        let mine = pair.takeFirst()
        let poller = try Poller()
        try poller.add(mine.rawValue, token: 1)
        _ = pair.takeSecond()
        #expect(try poller.wait(until: soon()) == 1)
        #expect(poller[0].readiness.contains([.readable, .hungUp]))
    }

    @Test func aWaitEndsAtItsDeadline() throws {
        let poller = try Poller()
        let start = MonotonicTime.now
        #expect(try poller.wait(until: .after(.milliseconds(20))) == 0)
        #expect(start.elapsed >= .milliseconds(20))
    }

    @Test func aDescriptorThatCannotBeWaitedForIsAnError() throws {
        let poller = try Poller()
        let error = try #require(throws: SystemCallError.self) { try poller.add(-1, token: 0) }
        #expect(error.errno == .badDescriptor)
        #expect(error.call == "epoll_ctl")
    }
}
