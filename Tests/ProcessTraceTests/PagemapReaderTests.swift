// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing

/// The entries of a live process say what PAGEMAP_SCAN says.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: pagemap of other processes"))
struct PagemapReaderTests {
    @Test func entriesAgreeWithTheScan() throws {
        let victim = try TracedVictim("trace-memory")
        let start = VirtualAddress(try victim.value("sparse"))
        let range = AddressRange(start, VirtualAddress(start.rawValue + 64 * PageSize.base))
        var present: [UInt64] = []
        try PagemapReader(pid: victim.pid).forEachEntry(of: range.pageNumbers) { page, entry in
            #expect(!entry.isSwapped && !entry.isFile && !entry.isWriteProtected)
            if entry.isPresent {
                present.append(page)
                #expect(entry.frame != 0)
            }
        }
        let scanned = try Pagemap(pid: victim.pid).scan(range, PageQuery(all: .present, returning: .present))
        #expect(present == scanned.flatMap { Array($0.range.pageNumbers) })
        #expect(present.count == 8)
    }

    @Test func aLongRangeIsReadInPieces() throws {
        let victim = try TracedVictim("trace-memory")
        let first = VirtualAddress(try victim.value("dense")).pageNumber
        let pages = first - 20_000..<first + 64
        var count: UInt64 = 0
        var present = 0
        try PagemapReader(pid: victim.pid).forEachEntry(of: pages) { page, entry in
            #expect(page == pages.lowerBound + count)
            count += 1
            if page >= first, entry.isPresent { present += 1 }
        }
        #expect(count == 20_064 && present == 64)
    }

    @Test func anAddressSpaceThatIsGoneIsTold() throws {
        let victim = try TracedVictim("trace-memory")
        let first = VirtualAddress(try victim.value("dense")).pageNumber
        let reader = try PagemapReader(pid: victim.pid)
        victim.process.end()
        let error = #expect(throws: TraceError.self) { try reader.forEachEntry(of: first..<first + 1) { _, _ in } }
        #expect(error?.code == .gone)
    }

    /// Whether a kernel without soft-dirty bits takes the order is up to it: it clears the referenced bits then, or refuses.
    @Test func clearingTheBitsHarmsNobody() throws {
        let victim = try TracedVictim("trace-memory")
        let before = try ProcessSnapshot(of: victim.pid)
        do {
            try SoftDirtyBits.clear(victim.pid)
        } catch {
            #expect(error.cause?.errno == .invalid)
        }
        #expect(try ProcessSnapshot(of: victim.pid).changes(since: before).allSatisfy { $0.contains("mapping") })
    }
}
