// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing
internal import Userfaultfd

/// Write protection, as the tracking of writes relies on it.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: userfaultfd of other processes"))
struct WriteProtectTests {
    private static let page = PageSize.base

    @Test func aWriteToAProtectedPageWaitsUntilTheProtectionIsLifted() throws {
        let victim = try RegisteredVictim(features: .deliveredWrites)
        let start = try victim.map(4, modes: .writeProtect)
        try victim.fill(start, pages: 4)
        #expect(try victim.uffd.writeProtect(victim.range(start, 4), armed: true) == .installed)
        try victim.tell("peek", start)
        #expect(try victim.answer() == 1)
        try victim.tell("poke", start + 2 * Self.page, 9)
        let fault = try victim.expectFault(at: start + 2 * Self.page)
        #expect(fault.kind == .writeProtect && fault.isWrite)
        #expect(try victim.marked(start, 4) == [0, 1, 2, 3])
        #expect(try victim.uffd.writeProtect(victim.range(start + 2 * Self.page, 1), armed: false) == .installed)
        #expect(try victim.answer() == 0)
        #expect(try victim.marked(start, 4) == [0, 1, 3])
    }

    @Test func theKernelsOwnWritesWaitAsWell() throws {
        let victim = try RegisteredVictim(features: .deliveredWrites)
        let start = try victim.map(4, modes: .writeProtect)
        try victim.fill(start, pages: 4)
        _ = try victim.uffd.writeProtect(victim.range(start, 4), armed: true)
        try victim.tell("read-into", start + Self.page, 100)
        #expect(try victim.expectFault(at: start + Self.page).kind == .writeProtect)
        _ = try victim.uffd.writeProtect(victim.range(start + Self.page, 1), armed: false)
        #expect(try victim.answer() == 100)
    }

    @Test func writesAreNotedWithoutAMessage() throws {
        let victim = try RegisteredVictim(features: .writeTracking)
        let start = try victim.map(4, modes: .writeProtect)
        try victim.fill(start, pages: 4)
        _ = try victim.uffd.writeProtect(victim.range(start, 4), armed: true)
        try victim.tell("poke", start + Self.page, 9)
        #expect(try victim.answer() == 0)
        #expect(try victim.uffd.readEvents(into: victim.events) == 0)
        #expect(try victim.marked(start, 4) == [0, 2, 3])
    }

    @Test func aRangeThatIsNotRegisteredCannotBeProtected() throws {
        let victim = try RegisteredVictim(features: .writeTracking)
        let start = try victim.map(4, modes: .writeProtect)
        try victim.uffd.unregister(victim.range(start, 4))
        #expect(try victim.uffd.writeProtect(victim.range(start, 4), armed: true) == .vanished)
    }

    @Test func endingARegistrationTakesTheMarksAway() throws {
        let victim = try RegisteredVictim(features: .writeTracking)
        let start = try victim.map(4, modes: .writeProtect)
        try victim.fill(start, pages: 4)
        _ = try victim.uffd.writeProtect(victim.range(start, 4), armed: true)
        try victim.uffd.unregister(victim.range(start, 4))
        #expect(try victim.marked(start, 4) == [])
    }

    @Test func aRegistrationReplacesTheModesOfTheLast() throws {
        let victim = try RegisteredVictim(features: [.lazyRestore, .writeProtect])
        let start = try victim.map(4, modes: .missing)
        try victim.tell("peek", start)
        _ = try victim.expectFault(at: start)
        try victim.install(6, at: start)
        #expect(try victim.answer() == 7)
        try victim.uffd.register(victim.range(start, 4), modes: .writeProtect)
        // Nobody is asked for the page any more: it is zeros.
        try victim.tell("peek", start + Self.page)
        #expect(try victim.answer() == 0)
    }

    @Test func aMoveThatIsDeliveredTakesRegistrationAndMarksAlong() throws {
        let victim = try RegisteredVictim(features: .deliveredWrites)
        let start = try victim.map(4, modes: .writeProtect)
        try victim.fill(start, pages: 4)
        let target = try victim.map(4, modes: .writeProtect)
        _ = try victim.uffd.writeProtect(victim.range(start, 4), armed: true)
        try victim.tell("move", start, 4, target)
        let events = try victim.next()
        let from = VirtualAddress(start)
        #expect(events.first == .remap(from: from, to: VirtualAddress(target), byteCount: 4 * Self.page))
        #expect(try UInt64(victim.answer()) == target)
        #expect(try victim.marked(target, 4) == [0, 1, 2, 3])
    }
}

extension RegisteredVictim {
    /// Writes 1 to each page.
    func fill(_ start: UInt64, pages: UInt64) throws {
        for page in 0..<pages {
            try tell("poke", start + page * PageSize.base, 1)
            _ = try answer()
        }
    }

    /// Pages with the mark of write protection, by their place.
    func marked(_ start: UInt64, _ pages: UInt64) throws -> [UInt64] {
        let query = PageQuery(all: [.present, .written], inverted: .written, returning: .present)
        let first = VirtualAddress(start).pageNumber
        return try Pagemap(pid: process.pid).scan(range(start, pages), query).flatMap { region in
            region.range.pageNumbers.map { $0 - first }
        }
    }
}
