// SPDX-License-Identifier: Apache-2.0
import LazyPages
import Paging
import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct PreCopiedPagesTests {
    private static func local(_ page: UInt64, _ count: UInt32) -> FaultAction {
        .installLocally(PageRequest(address: address(page), count: count))
    }

    @Test func aFaultTakesWhatWasPreCopied() throws {
        let machine = makeMachine()
        try machine.completeMap([run(0x100, 16)])
        try machine.preCopyMapArrived([run(0x104, 4)])
        #expect(machine.pageFaulted(.process, at: address(0x105)) == Self.local(0x105, 3))
        #expect(try machine.installAll(data(0x105, 3)) == ["space 0 0x105000+3 from 0 data"])
        // Installed: only a stale message can ask again, and the source knows the answer.
        machine.expectRequest(0x105)
        #expect(machine.pageFaulted(.process, at: address(0x104)) == Self.local(0x104, 1))
        #expect(machine.counters.localFaults == 2)
    }

    @Test func beforeItIsKnownToBeRightTheSourceIsAsked() throws {
        let machine = makeMachine()
        machine.expectRequest(0x100)
        try machine.completeMap([run(0x100, 2)])
        machine.expectRequest(0x101)
        try machine.preCopyMapArrived([run(0x100, 2)])
        // Both are under way.
        #expect(machine.pageFaulted(.process, at: address(0x100)) == .awaitPendingReply)
        #expect(try machine.installAll(data(0x100)) == ["space 0 0x100000+1 from 0 data"])
        #expect(machine.nextLocalRun(from: 0, limit: 64) == 0x101..<0x102)
    }

    @Test func aRequestLeavesOutWhatIsHere() throws {
        let machine = makeMachine()
        try machine.completeMap([run(0x100, 16)])
        try machine.preCopyMapArrived([run(0x102, 1)])
        machine.expectRequest(0x100)
        _ = try machine.installAll(data(0x100))
        // A walk asks for four pages; the second is here.
        machine.expectRequest(0x101, 1)
    }

    @Test func whatHasArrivedIsNotInstalledAgain() throws {
        let machine = makeMachine()
        _ = try machine.installAll(data(0x100, 2))
        try machine.completeMap([run(0x100, 4)])
        try machine.preCopyMapArrived([run(0x100, 4)])
        #expect(machine.nextLocalRun(from: 0, limit: 64) == 0x102..<0x104)
        _ = try machine.installAll(data(0x102))
        #expect(machine.nextLocalRun(from: 0, limit: 64) == 0x103..<0x104)
        _ = try machine.installAll(data(0x103))
        #expect(machine.nextLocalRun(from: 0, limit: 64) == nil)
        #expect(machine.isResident)
        #expect(machine.hasAllPages)
    }

    @Test func runsEndAtLimitsAndBlocks() throws {
        let machine = Books(segments: [Segment(range(0x1f0, 64))])
        try machine.completeMap([run(0x1f0, 64)])
        try machine.preCopyMapArrived([run(0x1f0, 64)])
        #expect(machine.nextLocalRun(from: 0, limit: 64) == 0x1f0..<0x200)
        #expect(machine.nextLocalRun(from: 0x200, limit: 8) == 0x200..<0x208)
        #expect(machine.pageFaulted(.process, at: address(0x1fe)) == Self.local(0x1fe, 2))
        #expect(machine.pageFaulted(.process, at: address(0x200)) == Self.local(0x200, 16))
    }

    @Test func aRemovedPageStaysZerosAndCounts() throws {
        let machine = makeMachine()
        try machine.completeMap([run(0x100, 2)])
        try machine.preCopyMapArrived([run(0x100, 2)])
        machine.removed(.process, range(0x100, 1))
        machine.expectZeros(0x100)
        #expect(machine.nextLocalRun(from: 0, limit: 64) == 0x100..<0x102)
        #expect(try machine.installAll(data(0x100, 2)) == ["space 0 0x101000+1 from 1 data"])
        #expect(machine.hasAllPages)
        #expect(machine.isResident)
    }

    @Test func itMustBeInAMapThatIsComplete() throws {
        let machine = makeMachine()
        let early = #expect(throws: LazyPagesError.self) { try machine.preCopyMapArrived([run(0x100, 1)]) }
        #expect(early?.code == .contradiction)
        try machine.completeMap([run(0x100, 2)])
        for bad in [run(0x101, 2), run(0x200, 1), run(0x900, 1)] {
            let error = #expect(throws: LazyPagesError.self) { try machine.preCopyMapArrived([bad]) }
            #expect(error?.code == .contradiction)
        }
        #expect(machine.nextLocalRun(from: 0, limit: 64) == nil)
    }
}
