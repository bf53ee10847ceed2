// SPDX-License-Identifier: Apache-2.0
import LazyPages
import Paging
import Testing

/// Guard pages that the source names while the process runs already.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct GuardTests {
    @Test func nothingIsInstalledWhereAGuardHasToBe() throws {
        let machine = makeMachine()
        try machine.guardsArrived([run(0x104, 2)])
        try machine.completeMap([run(0x100, 2)])
        #expect(machine.pageFaulted(.process, at: address(0x104)) == .awaitPendingReply)
        // Zeros that are filled in for speed stop before it.
        machine.expectZeros(0x102, 2)
        #expect(machine.nextPendingGuards() == range(0x104, 2))
        machine.guardsInstalled(.process, range(0x104, 2))
        #expect(machine.nextPendingGuards() == nil)
        // The application has taken the guard off.
        machine.expectZeros(0x104, 12)
    }

    @Test func aProcessThatWaitsForGuardsIsNotResident() throws {
        let machine = makeMachine()
        try machine.guardsArrived([run(0x104, 1)])
        try machine.completeMap([])
        #expect(machine.hasAllPages && !machine.isResident)
        machine.guardsInstalled(.process, range(0x104, 1))
        #expect(machine.isResident)
    }

    @Test func aRequestThatMeetsAGuardIsOver() throws {
        let machine = makeMachine()
        machine.expectRequest(0x104)
        try machine.requestMetGuards(run(0x104, 1))
        #expect(machine.nextPendingRequest(from: address(0)) == nil)
        #expect(machine.pageFaulted(.process, at: address(0x104)) == .awaitPendingReply)
        #expect(machine.nextPendingGuards() == range(0x104, 1))
        machine.guardsInstalled(.process, range(0x104, 1))
        // The map names it once more, and the answer to another request may come late.
        try machine.guardsArrived([run(0x103, 2)])
        try machine.completeMap([])
        #expect(machine.nextPendingGuards() == range(0x103, 1))
        try machine.requestMetGuards(run(0x104, 1))
        #expect(machine.nextPendingGuards() == range(0x103, 1))
    }

    @Test func aPageAskedForIsNotOwedOnceItIsAGuard() throws {
        let machine = makeMachine()
        machine.expectRequest(0x104)
        try machine.guardsArrived([run(0x104, 1)])
        try machine.completeMap([])
        machine.guardsInstalled(.process, range(0x104, 1))
        #expect(machine.isResident)
        try machine.requestMetGuards(run(0x104, 1))
        #expect(machine.isResident)
    }

    @Test(arguments: [false, true]) func guardsOutliveARemoval(beforeTheyAreNamed: Bool) throws {
        let machine = Books(segments: [Segment(range(0x400, 1024))])
        if beforeTheyAreNamed { machine.removed(.process, range(0x400, 600)) }
        try machine.guardsArrived([run(0x500, 1), run(0x7f0, 1)])
        if !beforeTheyAreNamed { machine.removed(.process, range(0x400, 600)) }
        #expect(machine.pageFaulted(.process, at: address(0x500)) == .awaitPendingReply)
        // What may be a guard as well is asked for, and its answer brings zeros.
        machine.expectRequest(0x501)
        #expect(try machine.installAll(data(0x501)) == ["space 0 0x501000+1 from 0 zeros"])
        try machine.completeMap([run(0x501, 1), run(0x502, 1), run(0x700, 1)])
        #expect(machine.nextPendingGuards() == range(0x500, 1))
        machine.expectZeros(0x501)
        #expect(machine.pageFaulted(.process, at: address(0x500)) == .awaitPendingReply)
        machine.guardsInstalled(.process, range(0x500, 1))
        #expect(machine.nextPendingGuards() == range(0x7f0, 1))
        #expect(try machine.installAll(data(0x502)) == [])
        #expect(try machine.installAll(data(0x700)) == ["space 0 0x700000+1 from 0 data"])
    }

    @Test func guardsMoveAndGoWithTheirMapping() throws {
        let machine = makeMachine()
        try machine.guardsArrived([run(0x104, 2)])
        machine.remapped(.process, from: address(0x100), to: address(0x900), length: 5 * 4096)
        #expect(machine.nextPendingGuards() == range(0x904, 1))
        #expect(machine.isPendingGuard(at: address(0x904)) && machine.isPendingGuard(at: address(0x105)))
        #expect(!machine.isPendingGuard(at: address(0x104)) && !machine.isPendingGuard(at: address(0x903)))
        machine.guardsInstalled(.process, range(0x904, 1))
        #expect(machine.nextPendingGuards() == range(0x105, 1))
        _ = machine.unmapped(.process, range(0x105, 1))
        #expect(machine.nextPendingGuards() == nil)
    }

    @Test func aChildWaitsForItsOwnGuards() throws {
        let machine = makeMachine()
        try machine.guardsArrived([run(0x104, 1), run(0x201, 1)])
        let child = try #require(machine.forked(.process))
        machine.guardsInstalled(.process, range(0x104, 1))
        machine.guardsInstalled(.process, range(0x201, 1))
        try machine.completeMap([])
        #expect(!machine.isResident)
        #expect(machine.pageFaulted(child, at: address(0x104)) == .awaitPendingReply)
        // What a child does not get holds no guards either.
        machine.expectZeros(0x201, in: child)
        #expect(machine.nextPendingGuards(of: child) == range(0x104, 1))
        machine.guardsInstalled(child, range(0x104, 1))
        #expect(machine.nextPendingGuards(of: child) == nil && machine.isResident)
        let second = try #require(machine.forked(.process))
        #expect(machine.nextPendingGuards(of: second) == nil)
    }

    @Test func guardsThatContradictWhatIsKnownAreRefused() throws {
        let machine = makeMachine()
        for (bad, code) in [
            (run(0x10f, 2), LazyPagesError.Code.outsideOfLazyMemory), (run(0x300, 1), .outsideOfLazyMemory),
            (run(0x100, 0), .mapTooLarge), (run(0x100, UInt64.max), .mapTooLarge),
        ] {
            let error = #expect(throws: LazyPagesError.self) { try machine.guardsArrived([bad]) }
            #expect(error?.code == code)
        }
        _ = try machine.pagesArrived(data(0x100))
        _ = try machine.pagesArrived(Arrival(address: address(0x101), count: 1, content: .absent))
        try machine.pageMapArrived([run(0x100, 1), run(0x102, 1)])
        for page: UInt64 in 0x100...0x102 {
            let error = #expect(throws: LazyPagesError.self) { try machine.guardsArrived([run(page, 1)]) }
            #expect(error?.code == .contradiction)
        }
        try machine.guardsArrived([run(0x103, 1)])
        try machine.pageMapArrived([run(0x103, 1)])
        let named = #expect(throws: LazyPagesError.self) { try machine.pageMapCompleted() }
        #expect(named?.code == .contradiction)
    }

    @Test func guardsBehindTheMapAreRefused() throws {
        let machine = makeMachine()
        try machine.guardsArrived([run(0x103, 1)])
        try machine.completeMap([])
        try machine.requestMetGuards(run(0x103, 1))
        let late = #expect(throws: LazyPagesError.self) { try machine.guardsArrived([run(0x103, 2)]) }
        #expect(late?.code == .contradiction)
    }
}
