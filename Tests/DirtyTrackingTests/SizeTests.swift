// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing

/// The cost follows the memory that is there. Figures are printed.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: userfaultfd of other processes"))
struct SizeTests {
    @Test func aGibibyteOfSmallPages() throws {
        let victim = try TrackedVictim()
        let region = try victim.region(1 << 18)
        let plain = try writing(victim, region)
        let (tracker, beginTime) = try timed { try victim.begin() }
        let first = try tracker.round()
        #expect(first.written.count(in: region.range.pageNumbers) == region.pages)
        let clean = try tracker.round()
        let armed = try writing(victim, region)
        let again = try writing(victim, region)
        let dirty = try tracker.round()
        #expect(dirty.written.count(in: region.range.pageNumbers) == region.pages)
        let last = try victim.stopped { try tracker.finalRound() }
        #expect(last.written.count(in: region.range.pageNumbers) == 0)
        let (_, endTime) = try timed { tracker.end() }
        print(
            """
            FIGURES 1 GiB dense: begin \(beginTime), first round \(first.scanTime), clean round \(clean.scanTime), \
            all written \(dirty.scanTime), final clean \(last.scanTime), end \(endTime)
            FIGURES writer, a page: untracked \(plain) ns, first write after a round \(armed) ns, later \(again) ns
            """
        )
    }

    /// Nanoseconds for one write to each page, by the page.
    private func writing(_ victim: TrackedVictim, _ region: Region) throws -> UInt64 {
        try victim.order("write-all", region.start, region.pages, 3) / region.pages
    }

    @Test func sixteenTebibytesWithAThousandPages() throws {
        let victim = try TrackedVictim()
        let region = Region(start: try victim.order("map", 1 << 32, 1), pages: 1 << 32)
        try victim.order("seed", 7)
        try victim.order("scatter", region.start, region.pages, 1000)
        let tablesBefore = try pageTables(victim)
        let memoryBefore = try residentKilobytes(getpid())
        let tracker = try victim.begin()
        let first = try tracker.round()
        let touched = first.written.count(in: region.range.pageNumbers)
        // MADV_NOHUGEPAGE is not set: a page may be huge.
        #expect(touched >= 999 && touched <= 1000 * 512)
        let clean = try tracker.round()
        try victim.order("scatter", region.start, region.pages, 100)
        try victim.order("advise", region.start, region.pages / 2, UInt64(MADV_DONTNEED))
        let changed = try tracker.round()
        #expect(changed.dropped.count(in: region[0..<region.pages / 2].range.pageNumbers) > 300)
        let last = try victim.stopped { try tracker.finalRound() }
        let tablesAfter = try pageTables(victim)
        let memoryAfter = try residentKilobytes(getpid())
        print(
            """
            FIGURES 16 TiB, 1000 pages touched (\(touched) pages): first round \(first.scanTime), clean \(clean.scanTime), \
            after 100 writes and DONTNEED of half \(changed.scanTime), final \(last.scanTime); \
            VmPTE \(tablesBefore) -> \(tablesAfter) kB, own memory +\(memoryAfter - memoryBefore) kB
            """
        )
        #expect(tablesAfter <= tablesBefore + 512)
    }

    @Test func aHundredThousandMappings() throws {
        let limit = try MappingLimit(300_000)
        defer { limit.putBack() }
        let victim = try TrackedVictim()
        let start = try victim.order("mappings", 50_000)
        let region = Region(start: start, pages: 100_000)
        let count = try ProcessMaps.read(victim.pid).count
        #expect(count > 99_900)
        let (tracker, beginTime) = try timed { try victim.begin() }
        let first = try tracker.round()
        #expect(first.written.count(in: region.range.pageNumbers) == 50_000)
        let clean = try tracker.round()
        try victim.order("write-all", region.page(2000), 1, 5)
        let last = try victim.stopped { try tracker.finalRound() }
        #expect(last.written.places(in: region) == [2000])
        let (_, endTime) = try timed { tracker.end() }
        print(
            """
            FIGURES \(count) mappings: begin \(beginTime), first round \(first.scanTime), clean \(clean.scanTime), \
            final \(last.scanTime), end \(endTime)
            """
        )
    }

    private func timed<Value>(_ body: () throws -> Value) throws -> (Value, Duration) {
        let began = MonotonicTime.now
        return (try body(), began.elapsed)
    }

    private func pageTables(_ victim: TrackedVictim) throws -> Int {
        try memoryKilobytes("VmPTE", of: victim.pid)
    }

    private func residentKilobytes(_ pid: Int32) throws -> Int {
        try memoryKilobytes("VmRSS", of: pid)
    }
}
