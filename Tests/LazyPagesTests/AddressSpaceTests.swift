// SPDX-License-Identifier: Apache-2.0
import LazyPages
import Paging
import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct AddressSpaceTests {
    @Test func aMovedMappingGetsItsPagesWhereItIsNow() throws {
        let machine = makeMachine()
        machine.expectRequest(0x102)
        machine.remapped(.process, from: address(0x102), to: address(0x900), length: 4 * PageSize.base)
        let waiting = machine.pageFaulted(.process, at: address(0x900))
        #expect(waiting == .awaitPendingReply)
        let installs = try machine.installAll(data(0x101, 6))
        #expect(
            installs == [
                "space 0 0x101000+1 from 0 data", "space 0 0x900000+4 from 1 data", "space 0 0x106000+1 from 5 data",
            ]
        )
        // The old place belongs to nobody.
        machine.expectZeros(0x102)
    }

    @Test func aMoveReplacesWhatWasThere() throws {
        let machine = makeMachine()
        machine.remapped(.process, from: address(0x200), to: address(0x104), length: 4 * PageSize.base)
        let installs = try machine.installAll(data(0x103, 4))
        #expect(installs == ["space 0 0x103000+1 from 0 data"])
        let moved = try machine.installAll(data(0x200, 4))
        #expect(moved == ["space 0 0x104000+4 from 0 data"])
    }

    @Test func anUnmappedRangeIsOwedNothing() throws {
        let machine = makeMachine()
        try machine.completeMap([run(0x100, 16)])
        let action = machine.unmapped(.process, range(0x104, 8))
        #expect(action == .wake)
        machine.expectZeros(0x104)
        let installs = try machine.installAll(data(0x100, 16))
        #expect(installs == ["space 0 0x100000+4 from 0 data", "space 0 0x10c000+4 from 12 data"])
        #expect(machine.isResident)
    }

    /// The kernel reports the unmapping of a range after it has already put a moved block there.
    @Test func anUnmappingThatAMoveOvertookDoesNotLoseTheBlock() throws {
        let machine = makeMachine()
        try machine.completeMap([run(0x100, 16), run(0x200, 8)])
        machine.remapped(.process, from: address(0x200), to: address(0x104), length: 4 * PageSize.base)
        let late = machine.unmapped(.process, range(0x102, 8))
        #expect(late == .confirm)
        // What was not moved is gone at once, the block only when the kernel says so.
        machine.expectZeros(0x102)
        let block = machine.pageFaulted(.process, at: address(0x104))
        #expect(block == .request(PageRequest(address: address(0x200), count: 1)))
        machine.unmapConfirmed(.process, range(0x102, 2))
        machine.unmapConfirmed(.process, range(0x108, 2))
        let installs = try machine.installAll(data(0x200, 4))
        #expect(installs == ["space 0 0x104000+4 from 0 data"])
    }

    @Test func aMovedBlockGoesWhenTheKernelConfirmsIt() throws {
        let machine = makeMachine()
        try machine.completeMap([run(0x200, 8)])
        machine.remapped(.process, from: address(0x200), to: address(0x900), length: 8 * PageSize.base)
        let action = machine.unmapped(.process, range(0x900, 8))
        #expect(action == .confirm)
        #expect(!machine.isResident)
        machine.unmapConfirmed(.process, range(0x902, 6))
        let installs = try machine.installAll(data(0x200, 8))
        #expect(installs == ["space 0 0x900000+2 from 0 data"])
        #expect(machine.isResident)
    }

    @Test func aChildIsOwedWhatItsParentIs() throws {
        let machine = makeMachine()
        try machine.completeMap([run(0x100, 4), run(0x200, 2)])
        _ = try machine.installAll(data(0x100))
        machine.removed(.process, range(0x101, 1))
        machine.expectRequest(0x102)
        let child = try #require(machine.forked(.process))
        #expect(child.description == "space 1")
        let waiting = machine.pageFaulted(child, at: address(0x102))
        #expect(waiting == .awaitPendingReply)
        machine.expectZeros(0x101, in: child)
        machine.expectZeros(0x200, in: child)  // MADV_WIPEONFORK
        let installs = try machine.installAll(data(0x100, 4))
        #expect(installs == ["space 0 0x102000+2 from 2 data", "space 1 0x102000+2 from 2 data"])
        #expect(!machine.isResident)
        let last = try machine.installAll(data(0x200, 2))
        #expect(last == ["space 0 0x200000+2 from 0 data"])
        #expect(machine.isResident)
    }

    @Test func spacesLiveOnTheirOwn() throws {
        let machine = makeMachine()
        try machine.completeMap([run(0x100, 2)])
        let child = try #require(machine.forked(.process))
        machine.removed(.process, range(0x100, 1))
        machine.remapped(child, from: address(0x100), to: address(0x800), length: 2 * PageSize.base)
        let installs = try machine.installAll(data(0x100, 2))
        #expect(installs == ["space 0 0x101000+1 from 1 data", "space 1 0x800000+2 from 0 data"])
    }

    @Test func aChildForkedBetweenTwoInstallsGetsThePageToo() throws {
        let machine = makeMachine()
        let arrival = data(0x100)
        _ = try machine.pagesArrived(arrival)
        let first = try #require(machine.nextInstall(of: arrival))
        machine.installed(first, .installed(0))  // EAGAIN: a fork was pending
        let child = try #require(machine.forked(.process))
        var spaces: [SpaceIdentifier] = []
        while let install = machine.nextInstall(of: arrival) {
            spaces.append(install.space)
            machine.installed(install, .installed(1))
        }
        #expect(spaces == [.process, child])
    }

    @Test func nothingIsOwedToASpaceThatEnded() throws {
        let machine = makeMachine()
        try machine.completeMap([run(0x100, 2)])
        let child = try #require(machine.forked(.process))
        _ = try machine.installAll(data(0x100, 2))
        _ = machine.pageFaulted(child, at: address(0x100))
        #expect(!machine.isResident)
        machine.spaceEnded(child)
        #expect(machine.isResident)
        machine.spaceEnded(.process)
        #expect(machine.isResident)
        let installs = try machine.installAll(data(0x100, 2))
        #expect(installs.isEmpty)
    }
}
