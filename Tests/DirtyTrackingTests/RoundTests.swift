// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import Glibc
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing

/// What rounds report when a process writes, and when it changes its mappings.
@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: Machine.isRoot, "needs root: userfaultfd of other processes"))
struct RoundTests {
    @Test(arguments: TrackingWay.allCases)
    func exactlyThePagesWrittenBetweenRoundsAreReported(way: TrackingWay) throws {
        let victim = try TrackedVictim()
        let region = try victim.region(64)
        let hole = try victim.region(64, filled: nil)
        let tracker = try victim.begin(way)
        let first = try tracker.round()
        #expect(first.written.places(in: region) == Array(0..<64))
        #expect(first.written.places(in: hole).isEmpty)
        #expect(first.dropped.isEmpty)
        try victim.order("write-all", region.page(3), 2, 9)
        try victim.order("read-into", region.page(10) + 100, 5000)
        try victim.order("write-all", hole.page(7), 1, 9)
        try victim.order("peek", region.page(20))
        try victim.order("peek", hole.page(30))
        let second = try tracker.round()
        #expect(second.written.places(in: region) == [3, 4, 10, 11])
        #expect(second.written.places(in: hole) == [7])
        #expect(second.dropped.isEmpty)
        let third = try tracker.round()
        #expect(third.written.places(in: region).isEmpty && third.written.places(in: hole).isEmpty)
        try victim.order("write-all", region.page(4), 1, 9)
        let last = try victim.stopped { try tracker.finalRound() }
        #expect(last.written.places(in: region) == [4] && last.written.places(in: hole).isEmpty)
        #expect(last.dropped.isEmpty)
        // The last look has armed nothing.
        let again = try victim.stopped { try tracker.finalRound() }
        #expect(again.written == last.written)
        let mapping = try #require(first.mappings.first { $0.range.contains(region.range) })
        #expect(mapping.written >= 64 && mapping.present >= 64)
    }

    @Test(arguments: TrackingWay.allCases, [false, true])
    func pagesThatAreThrownAwayAreDropped(way: TrackingWay, inRound: Bool) throws {
        let victim = try TrackedVictim()
        let region = try victim.region(64)
        let tracker = try victim.begin(way)
        _ = try tracker.round()
        try victim.order("advise", region.page(4), 4, UInt64(MADV_DONTNEED))
        try victim.order("peek", region.page(5))
        try victim.order("write-all", region.page(6), 1, 3)
        let look = try inRound ? tracker.round() : victim.stopped { try tracker.finalRound() }
        #expect(look.dropped.places(in: region).filter { $0 != 6 } == [4, 5, 7])
        #expect(look.written.places(in: region) == [6])
    }

    @Test(arguments: TrackingWay.allCases, [false, true])
    func hugePagesThatAreThrownAwayAreDropped(way: TrackingWay, inRound: Bool) throws {
        let victim = try TrackedVictim()
        let region = try victim.region(4 * 512, how: .huge)
        let isHuge = try Pagemap(pid: victim.pid).scan(region.range, PageQuery(all: .huge, returning: .huge))
        try #require(isHuge.map(\.range) == [region.range], "huge pages are off on this machine")
        let tracker = try victim.begin(way)
        #expect(try tracker.round().written.places(in: region).count == 4 * 512)
        try victim.order("advise", region.page(512), 512, UInt64(MADV_DONTNEED))
        try victim.order("write-all", region.page(1024 + 17), 1, 5)
        let look = try inRound ? tracker.round() : victim.stopped { try tracker.finalRound() }
        #expect(look.dropped.places(in: region) == Array(512..<1024))
        // A write to one page of a huge page reports that page only.
        #expect(look.written.places(in: region) == [1024 + 17])
    }

    @Test(arguments: TrackingWay.allCases)
    func freedPagesAreOldOrGone(way: TrackingWay) throws {
        let victim = try TrackedVictim()
        let region = try victim.region(16)
        let tracker = try victim.begin(way)
        _ = try tracker.round()
        try victim.order("advise", region.start, 8, UInt64(MADV_FREE))
        try victim.order("write-all", region.page(2), 1, 4)
        let look = try tracker.round()
        // Nothing is said of the others until the kernel takes them: until then they hold what was sent.
        #expect(look.written.places(in: region) == [2])
        // MADV_PAGEOUT: without swap only freed pages can be taken.
        try victim.order("advise", region.start, 16, 21)
        let last = try victim.stopped { try tracker.finalRound() }
        for place in UInt64(0)..<8 where !last.dropped.contains(region.page(place) / PageSize.base) {
            #expect(try victim.memory.readWord(VirtualAddress(region.page(place))) & 0xff != 0)
        }
    }

    @Test(arguments: TrackingWay.allCases, [false, true])
    func aMappingInThePlaceOfAnotherIsNew(way: TrackingWay, inRound: Bool) throws {
        let victim = try TrackedVictim()
        let region = try victim.region(64)
        let tracker = try victim.begin(way)
        _ = try tracker.round()
        try victim.order("map-at", region.page(16), 16, 0)
        try victim.fill(region[20..<24], 7)
        let look = try inRound ? tracker.round() : victim.stopped { try tracker.finalRound() }
        #expect(Set(look.dropped.places(in: region)).isSuperset(of: Array(16..<20) + Array(24..<32)))
        #expect(Set(look.dropped.places(in: region)).isSubset(of: 16..<32))
        #expect(look.written.places(in: region) == [20, 21, 22, 23])
        guard inRound else { return }
        try victim.order("write-all", region.page(21), 1, 9)
        #expect(try tracker.round().written.places(in: region) == [21])
    }

    @Test(arguments: TrackingWay.allCases)
    func whatIsOutOfScopeNowIsDropped(way: TrackingWay) throws {
        let victim = try TrackedVictim()
        let region = try victim.region(64)
        let tracker = try victim.begin(way)
        _ = try tracker.round()
        try victim.order("map-at", region.page(8), 8, 1)
        try victim.fill(region[8..<16], 7)
        try victim.order("unmap", region.page(40), 4)
        let look = try tracker.round()
        #expect(look.dropped.places(in: region) == Array(8..<16) + Array(40..<44))
        #expect(look.written.places(in: region).isEmpty)
    }

    @Test(arguments: TrackingWay.allCases, [false, true])
    func aMovedMappingIsNewThere(way: TrackingWay, inRound: Bool) throws {
        let victim = try TrackedVictim()
        let source = try victim.region(32, filled: 5)
        let target = try victim.region(64, filled: 6)
        let tracker = try victim.begin(way)
        _ = try tracker.round()
        try victim.order("move", source.start, 32, target.page(16))
        let look = try inRound ? tracker.round() : victim.stopped { try tracker.finalRound() }
        #expect(look.dropped.places(in: source) == Array(0..<32))
        #expect(look.written.places(in: target) == Array(16..<48))
        #expect(Set(look.dropped.places(in: target)).isSubset(of: 16..<48))
    }

    /// A mapping that has moved is taken apart just while it is armed: what could not be armed must be said by the next look, though its
    /// pages have kept their marks.
    @Test(arguments: TrackingWay.allCases)
    func aMovedMappingThatIsTakenApartMeanwhileIsSaid(way: TrackingWay) throws {
        let victim = try TrackedVictim()
        let (source, target) = (try victim.region(512), try victim.region(512))
        let tracker = try victim.begin(way)
        var copies = PageSet()
        func enter(_ round: TrackerRound) {
            copies.subtract(round.dropped)
            copies.formUnion(round.written)
        }
        for turn in 0..<40 {
            try victim.order("map-at", source.start, 512, 0)
            try victim.fill(source, 1)
            enter(try tracker.round())
            try victim.order("move", source.start, 512, target.start)
            // Later each time, until it is too late.
            let wait = Array(repeating: ("peek", [target.start]), count: 80 * turn)
            let cuts = stride(from: UInt64(510), to: 8, by: -2).map { ("map-at", [target.page($0), 1, 0]) }
            try victim.tell(wait + cuts)
            enter(try tracker.round())
            for _ in wait + cuts { _ = try victim.answer() }
            let last = try victim.stopped { try tracker.finalRound() }
            var told = copies
            told.subtract(last.dropped)
            told.formUnion(last.written)
            let missing = (0..<UInt64(8)).filter { !told.places(in: target).contains($0) }
            #expect(missing.isEmpty, "turn \(turn): nothing is said of pages \(missing)")
        }
    }

    /// Linux 6.18 takes the registration of a mapping away that a moved one is merged with, and leaves the marks of its pages.
    @Test(arguments: TrackingWay.allCases, [0, 1, 2])
    func aMappingThatAMovedOneIsMergedWithIsFollowed(way: TrackingWay, roundsBetween: Int) throws {
        let victim = try TrackedVictim()
        let room = try victim.region(64, filled: nil)
        try victim.order("unmap", room.page(32), 32)
        let region = room[0..<32]
        try victim.fill(region, 5)
        // Far away, or it would be a part of a mapping with pages, which is merged with nothing.
        let untouched = Region(start: room.start - (1 << 30), pages: 16)
        try victim.order("map-at", untouched.start, 16, 0)
        try victim.order("advise", untouched.start, 16, UInt64(MADV_NOHUGEPAGE))
        let tracker = try victim.begin(way)
        _ = try tracker.round()
        try victim.order("move", untouched.start, 16, room.page(32))
        let merged = try ProcessMaps.readDetailed(victim.pid).first { $0.range.contains(room[0..<48].range) }
        let hasLost = merged?.details.map { !$0.has("uw") } ?? false
        print("MERGED \(way.rawValue): \(merged != nil), registration lost: \(hasLost)")
        // Written while nothing is registered, and again later.
        try victim.order("write-all", region.page(3), 2, 9)
        for _ in 0..<roundsBetween { _ = try tracker.round() }
        try victim.order("write-all", region.page(4), 2, 8)
        let last = try victim.stopped { try tracker.finalRound() }
        #expect(Set(last.written.places(in: region)).isSuperset(of: roundsBetween == 0 ? [3, 4, 5] : [4, 5]))
        tracker.end()
        let marked = PageQuery(all: [.present, .written], inverted: .written, returning: .present)
        #expect(try Pagemap(pid: victim.pid).scan(room.range, marked).isEmpty)
    }

    @Test(arguments: TrackingWay.allCases)
    func whatGrowsIsNew(way: TrackingWay) throws {
        let victim = try TrackedVictim()
        // Room behind it.
        let room = try victim.region(128, filled: nil)
        try victim.order("unmap", room.page(32), 96)
        let region = room[0..<64]
        try victim.fill(room[0..<32], 3)
        let heap = Region(start: try victim.order("break", 16), pages: 48)
        try victim.fill(heap[0..<8], 3)
        let tracker = try victim.begin(way)
        _ = try tracker.round()
        #expect(try victim.order("resize", region.start, 32, 64) == region.start)
        try victim.fill(region[40..<48], 4)
        try victim.order("break", 32)
        try victim.fill(heap[20..<24], 4)
        let second = try tracker.round()
        #expect(second.written.places(in: region) == Array(40..<48))
        #expect(second.written.places(in: heap) == Array(20..<24))
        #expect(second.dropped.places(in: region).isEmpty && second.dropped.places(in: heap).isEmpty)
        try victim.order("write-all", region.page(41), 1, 9)
        try victim.order("write-all", heap.page(21), 1, 9)
        let third = try tracker.round()
        #expect(third.written.places(in: region) == [41] && third.written.places(in: heap) == [21])
    }

    @Test(arguments: TrackingWay.allCases)
    func protectionChangesNothing(way: TrackingWay) throws {
        let victim = try TrackedVictim()
        let region = try victim.region(64)
        let hidden = try victim.region(8)
        try victim.order("protect", hidden.start, 8, UInt64(PROT_NONE))
        let tracker = try victim.begin(way)
        #expect(try tracker.round().written.places(in: hidden) == Array(0..<8))
        for protection in [PROT_READ, PROT_NONE, PROT_READ | PROT_WRITE] {
            try victim.order("protect", region.page(8), 16, UInt64(protection))
            let look = try tracker.round()
            #expect(look.written.places(in: region).isEmpty && look.dropped.isEmpty)
        }
        try victim.order("write-all", region.page(9), 1, 9)
        #expect(try tracker.round().written.places(in: region) == [9])
    }

    @Test(arguments: TrackingWay.allCases)
    func guardsAndZeroPagesAreNoData(way: TrackingWay) throws {
        let victim = try TrackedVictim()
        let region = try victim.region(16)
        let empty = try victim.region(16, filled: nil)
        for place in UInt64(0)..<8 { try victim.order("peek", empty.page(place)) }
        // MADV_GUARD_INSTALL, Linux 6.13.
        try #require(try victim.ask("advise", region.page(2), 2, 102) == 0)
        let tracker = try victim.begin(way)
        let first = try tracker.round()
        #expect(first.written.places(in: region) == Array(0..<2) + Array(4..<16))
        #expect(first.written.places(in: empty).isEmpty)
        try victim.order("advise", region.page(8), 2, 102)
        let second = try tracker.round()
        #expect(second.dropped.places(in: region) == [8, 9] && second.written.places(in: region).isEmpty)
        // MADV_GUARD_REMOVE
        try victim.order("advise", region.page(8), 2, 103)
        try victim.order("write-all", region.page(9), 1, 3)
        try victim.order("write-all", empty.page(3), 1, 3)
        let last = try victim.stopped { try tracker.finalRound() }
        #expect(last.written.places(in: region) == [9] && last.written.places(in: empty) == [3])
    }
}
