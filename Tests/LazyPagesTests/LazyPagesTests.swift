// SPDX-License-Identifier: Apache-2.0
import LazyPages
import Paging
import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct LazyPagesTests {
    @Test func aFaultBecomesOneRequestAndItsAnswerOneInstall() throws {
        let machine = makeMachine()
        machine.expectRequest(0x103)
        let second = machine.pageFaulted(.process, at: VirtualAddress(0x103_abc))
        #expect(second == .awaitPendingReply)
        let installs = try machine.installAll(data(0x103))
        #expect(installs == ["space 0 0x103000+1 from 0 data"])
        #expect(machine.counters.demanded == 1)
        #expect(machine.counters.awaited == 1)
        #expect(machine.counters.installed == 1)
        #expect(machine.nextPendingRequest(from: address(0)) == nil)
    }

    @Test func aFaultOutsideOfLazyMemoryIsZerosAtOnce() {
        let machine = makeMachine()
        machine.expectZeros(0xff)
        machine.expectZeros(0x110)
    }

    @Test func aFaultInASpaceThatEndedIsIgnored() throws {
        let machine = makeMachine()
        let child = try #require(machine.forked(.process))
        machine.spaceEnded(child)
        let action = machine.pageFaulted(child, at: address(0x100))
        #expect(action == .ignore)
        let grandchild = machine.forked(child)
        #expect(grandchild == nil)
        #expect(machine.livingSpaces == [.process])
    }

    @Test func aWalkAsksForMoreAndScatteredTouchesForOnePage() throws {
        let machine = Books(segments: [Segment(range(0x1000, 4096))])
        try machine.completeMap([run(0x1000, 4096)])
        machine.expectRequest(0x1000)
        machine.expectRequest(0x1001, 4)
        machine.expectRequest(0x1005, 16)
        machine.expectRequest(0x1015, 32)
        machine.expectRequest(0x1035, 32)
        machine.expectRequest(0x1800)
        machine.expectRequest(0x1700)
        machine.expectRequest(0x1900)
        // The first walk is still known.
        machine.expectRequest(0x1055, 32)
        #expect(machine.counters.prefetched == 3 + 15 + 31 * 3)
    }

    @Test func aPrefetchStopsBeforeWhatIsNotOwed() throws {
        let machine = Books(segments: [Segment(range(0x100, 64)), Segment(range(0x140, 16))])
        try machine.completeMap([run(0x100, 6), run(0x108, 72)])
        machine.expectRequest(0x104)
        machine.expectRequest(0x105)  // 0x106 is not in the map.
        machine.expectRequest(0x13c)
        machine.expectRequest(0x13d, 3)  // The next mapping begins at 0x140.
    }

    @Test func aPrefetchStopsBeforeWhatWasAskedFor() {
        let machine = makeMachine()
        machine.expectRequest(0x103)
        machine.expectRequest(0x100)
        machine.expectRequest(0x101, 2)
        let awaited = machine.pageFaulted(.process, at: address(0x102))
        #expect(awaited == .awaitPendingReply)
    }

    @Test func pagesOutsideOfTheMapAreZerosOnceItIsComplete() throws {
        let machine = makeMachine()
        machine.expectRequest(0x100)
        try machine.completeMap([run(0x101, 2), run(0x108, 1)])
        machine.expectZeros(0x103, 5)
        machine.expectZeros(0x109, 7)
        machine.expectRequest(0x102)
        // The first request was made before the map was known: its thread still gets its answer.
        #expect(!machine.isResident)
        let installs = try machine.installAll(Arrival(address: address(0x100), count: 1, content: .absent))
        #expect(installs == ["space 0 0x100000+1 from 0 zeros"])
        machine.expectZeros(0x100)
    }

    @Test func anEmptyMapMakesTheProcessResidentAtOnce() throws {
        let machine = makeMachine()
        #expect(!machine.isResident)
        #expect(!machine.hasAllPages)
        try machine.completeMap([])
        #expect(machine.isResident)
        #expect(machine.hasAllPages)
        #expect(machine.mappedPages == 0)
    }

    @Test func everyPageOfTheMapCountsOnceWhicheverWayItComes() throws {
        let machine = makeMachine()
        let early = try machine.pagesArrived(data(0x100, 2))
        #expect(early.bits == 0b11)
        try machine.completeMap([run(0x100, 4)])
        #expect(machine.arrivedPages == 2)
        let mixed = try machine.pagesArrived(data(0x101, 3))
        #expect(mixed.bits == 0b110)
        #expect(mixed.count == 2)
        #expect(mixed.contains(1))
        #expect(!mixed.contains(0))
        let again = try machine.pagesArrived(data(0x100, 4))
        #expect(again.bits == 0)
        #expect(machine.hasAllPages)
        #expect(machine.arrivedPages == 4)
        #expect(!machine.isResident)
    }

    @Test func aRemovedPageIsNotFilledByAnOlderReply() throws {
        let machine = makeMachine()
        try machine.completeMap([run(0x100, 16)])
        machine.expectRequest(0x101)
        machine.removed(.process, range(0x101, 1))
        machine.expectZeros(0x101)
        let installs = try machine.installAll(data(0x100, 3))
        #expect(installs == ["space 0 0x100000+1 from 0 data", "space 0 0x102000+1 from 2 data"])
        machine.expectZeros(0x101)
    }

    @Test func aPageRemovedBeforeTheMapCameStaysZeros() throws {
        let machine = Books(segments: [Segment(range(0x100, 2048))])
        machine.removed(.process, range(0x102, 1))
        machine.removed(.process, range(0x200, 1024))
        // They may be guard pages, which outlive a removal: the source is asked.
        machine.expectRequest(0x102)
        machine.expectRequest(0x300)
        #expect(try machine.installAll(data(0x102)) == ["space 0 0x102000+1 from 0 zeros"])
        let absent = Arrival(address: address(0x301), count: 1, content: .absent)
        #expect(try machine.installAll(absent) == [])
        machine.expectZeros(0x102)
        machine.expectZeros(0x301)
        #expect(machine.pageFaulted(.process, at: address(0x300)) == .awaitPendingReply)
        try machine.completeMap([run(0x100, 512), run(0x302, 1026)])
        machine.expectZeros(0x102)
        machine.expectZeros(0x300)
        #expect(try machine.installAll(Arrival(address: address(0x300), count: 1, content: .absent)).count == 1)
        machine.expectRequest(0x101)
        machine.expectRequest(0x600)
    }

    @Test func anInstalledPageThatIsRemovedIsZeros() throws {
        let machine = makeMachine()
        try machine.completeMap([run(0x100, 16)])
        _ = try machine.installAll(data(0x100, 16))
        #expect(machine.isResident)
        machine.removed(.process, range(0x104, 2))
        machine.expectZeros(0x104, 2)
        #expect(machine.isResident)
    }

    @Test func aRemovalBetweenTwoInstallsOfOneArrivalIsHonoured() throws {
        let machine = makeMachine()
        let arrival = data(0x100, 4)
        _ = try machine.pagesArrived(arrival)
        let first = try #require(machine.nextInstall(of: arrival))
        #expect(first.count == 4)
        machine.installed(first, .installed(0))
        machine.removed(.process, range(0x100, 2))
        let second = try #require(machine.nextInstall(of: arrival))
        #expect(second.address == address(0x102))
        #expect(second.offset == 2)
        #expect(second.count == 2)
    }

    @Test func aPrefetchedPageThatHitAnEventIsNotTakenForInstalled() throws {
        let machine = makeMachine()
        try machine.completeMap([run(0x100, 2)])
        let arrival = data(0x100, 2)
        _ = try machine.pagesArrived(arrival)
        let install = try #require(machine.nextInstall(of: arrival))
        machine.installed(install, .installed(1))
        #expect(!machine.isResident)
        let rest = try #require(machine.nextInstall(of: arrival))
        #expect(rest.offset == 1)
        machine.installed(rest, .installed(1))
        #expect(machine.isResident)
        let none = machine.nextInstall(of: arrival)
        #expect(none == nil)
    }

    @Test func aPresentPageIsSkippedAndTheRestGoesOn() throws {
        let machine = makeMachine()
        let arrival = data(0x100, 3)
        _ = try machine.pagesArrived(arrival)
        let first = try #require(machine.nextInstall(of: arrival))
        machine.installed(first, .alreadyPresent)
        let rest = try #require(machine.nextInstall(of: arrival))
        #expect(rest.offset == 1)
        #expect(rest.count == 2)
        #expect(machine.counters.alreadyPresent == 1)
    }

    @Test func aRangeAcrossMappingsIsInstalledPageByPageAndWhatVanishedIsGivenUp() throws {
        let machine = makeMachine()
        try machine.completeMap([run(0x100, 2)])
        let arrival = data(0x100, 2)
        _ = try machine.pagesArrived(arrival)
        let both = try #require(machine.nextInstall(of: arrival))
        machine.installed(both, .vanished)
        let one = try #require(machine.nextInstall(of: arrival, limit: 1))
        #expect(one.offset == 0)
        #expect(one.count == 1)
        machine.installed(one, .vanished)
        let other = try #require(machine.nextInstall(of: arrival, limit: 1))
        #expect(other.offset == 1)
        machine.installed(other, .installed(1))
        #expect(machine.isResident)
    }

    @Test func aFaultOnAnInstalledPageIsAskedForAgain() throws {
        let machine = makeMachine()
        _ = try machine.installAll(data(0x100))
        machine.expectRequest(0x100)
        let installs = try machine.installAll(data(0x100))
        #expect(installs == ["space 0 0x100000+1 from 0 data"])
        try machine.completeMap([run(0x100, 1)])
        #expect(machine.isResident)
        machine.expectRequest(0x100)
        #expect(!machine.isResident)
        _ = try machine.installAll(data(0x100))
        #expect(machine.isResident)
    }

    @Test func aFailedRequestIsMadeAgain() {
        let machine = makeMachine()
        machine.expectRequest(0x100)
        machine.requestFailed(PageRequest(address: address(0x100), count: 1))
        machine.expectRequest(0x100)
    }

    @Test func pendingRequestsAreListedForANewConnection() throws {
        let machine = Books(segments: [Segment(range(0x1000, 4096))])
        try machine.completeMap([run(0x1000, 4096)])
        for page in [0x1000, 0x1001, 0x1005, 0x1800] as [UInt64] {
            _ = machine.pageFaulted(.process, at: address(page))
        }
        var position = address(0)
        var list: [PageRequest] = []
        while let request = machine.nextPendingRequest(from: position) {
            list.append(request)
            position = address(request.address.pageNumber + UInt64(request.count))
        }
        #expect(
            list == [PageRequest(address: address(0x1000), count: 21), PageRequest(address: address(0x1800), count: 1)]
        )
    }
}
