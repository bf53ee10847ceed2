// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LazyPages
internal import LinuxSystem
internal import Paging
internal import TestSupport
internal import Testing
internal import Userfaultfd

@testable internal import LazyRestore

/// Whatever is the last thing that was owed, a move comes to its end.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: userfaultfd of other processes"))
struct CompletionTests {
    private static let page = PageSize.base

    /// A victim that owes two private pages, with the memory that threads share.
    private final class Owing {
        let victim: RegisteredVictim
        let start: UInt64
        let memory: LazyMemory

        init() throws {
            victim = try RegisteredVictim()
            try victim.uffd.setNonBlocking()
            start = try victim.map(2)
            let state = MemoryState(
                segments: [Segment(victim.range(start, 2))],
                uffd: try victim.uffd.duplicate(),
                pid: victim.process.pid
            )
            memory = try LazyMemory(state, stop: EventDescriptor())
        }

        deinit { memory.close() }

        func address(_ page: UInt64) -> VirtualAddress { VirtualAddress(start + page * CompletionTests.page) }

        /// The source's pages are the first `count`.
        func mapArrives(_ count: UInt64) throws {
            try memory.mapArrived([PageRun(address: address(0), count: count)], isLast: true)
        }

        func arrive(_ page: UInt64, _ content: Arrival.Content, _ urgency: LazyMemory.Urgency) throws {
            let arrival = Arrival(address: address(page), count: 1, content: content)
            try memory.deliver(arrival, from: victim.buffer, at: Int(page) * PageSize.baseBytes, urgency)
        }

        /// Has a thread miss a page; returns for what the source is asked.
        func touch(_ page: UInt64) throws -> [PageRequest] {
            try victim.tell("peek", address(page).rawValue)
            try waitForMessage()
            return try requests()
        }

        func waitForMessage() throws {
            let arrived = try DescriptorIO.wait(for: .readable, on: victim.uffd.descriptor, until: .after(patience))
            try #require(arrived, "no message")
        }

        func requests() throws -> [PageRequest] {
            try memory.with(.fault) { state in
                var list: [PageRequest] = []
                _ = try state.service()
                state.takeRequests(into: &list)
                return list
            }
        }

        /// A page comes while the message is on its way that a thread misses it.
        func arriveWhileMissed(_ page: UInt64) throws {
            try victim.tell("peek", address(page).rawValue)
            let fault = try victim.expectFault(at: address(page).rawValue)
            try arrive(page, .data, .stream)
            #expect(try victim.answer() == Int64(page + 1))
            memory.with(.fault) { $0.noteFault(fault, of: .process) }
            #expect(try requests().map(\.address) == [address(page)])
        }

        func isComplete() throws -> Bool { try memory.completed.wait(until: .immediate) }
    }

    @Test func theLastPageOfTheStream() throws {
        let owing = try Owing()
        try owing.mapArrives(2)
        try owing.arrive(0, .data, .stream)
        #expect(try !owing.isComplete())
        try owing.arrive(1, .data, .stream)
        #expect(try owing.isComplete())
    }

    /// A page that the source does not have counts for nothing, but somebody waits for it.
    @Test func theAnswerThatThereIsNoSuchPage() throws {
        let owing = try Owing()
        #expect(try owing.touch(1).map(\.address) == [owing.address(1)])
        try owing.mapArrives(1)
        try owing.arrive(0, .data, .stream)
        #expect(try !owing.isComplete())
        try owing.arrive(1, .absent, .fault)
        #expect(try owing.victim.answer() == 0)
        #expect(try owing.isComplete())
    }

    @Test func theAnswerForAPageThatHadCome() throws {
        let owing = try Owing()
        try owing.mapArrives(2)
        try owing.arriveWhileMissed(0)
        try owing.arrive(1, .data, .stream)
        #expect(try !owing.isComplete())
        try owing.arrive(0, .data, .fault)
        #expect(try owing.isComplete())
    }

    @Test func aRemovalOfWhatIsOwed() throws {
        let owing = try Owing()
        try owing.mapArrives(2)
        try owing.arriveWhileMissed(0)
        try owing.arrive(1, .data, .stream)
        #expect(try !owing.isComplete())
        try owing.victim.tell("remove", owing.address(0).rawValue, 1)
        try owing.waitForMessage()
        #expect(try owing.requests().isEmpty)
        #expect(try owing.victim.answer() == 0)
        #expect(try owing.isComplete())
    }
}
