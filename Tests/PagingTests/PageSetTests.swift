// SPDX-License-Identifier: Apache-2.0
import Paging
import TestSupport
import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct PageSetTests {
    @Test func insertingAndRemovingTellWhetherThePageWasThere() {
        var set = PageSet()
        let changed1 = set.insert(7)
        #expect(changed1)
        let changed2 = set.insert(7)
        #expect(!changed2)
        #expect(set.contains(7))
        #expect(!set.contains(6))
        #expect(set.count == 1)
        let changed3 = set.remove(7)
        #expect(changed3)
        let changed4 = set.remove(7)
        #expect(!changed4)
        #expect(set.isEmpty)
    }

    @Test func rangesAcrossBlocksCountOnlyWhatChanges() {
        var set = PageSet()
        set.insert(600)
        let changed5 = set.insert(500..<1600)
        #expect(changed5 == 1099)
        #expect(set.count == 1100)
        #expect(set.count(in: 511..<513) == 2)
        #expect(set.count(in: 0..<501) == 1)
        let changed6 = set.remove(512..<1024)
        #expect(changed6 == 512)
        #expect(set.nextRun(from: 0) == 500..<512)
        #expect(set.nextRun(from: 512) == 1024..<1600)
        #expect(set.nextRun(from: 1600) == nil)
        #expect(set.intersects(511..<600))
        #expect(!set.intersects(512..<1024))
    }

    @Test func runsAreMaximalAcrossBlocksAndCutAtTheStart() {
        var set = PageSet()
        set.insert(510..<1026)
        #expect(set.nextRun(from: 0) == 510..<1026)
        #expect(set.nextRun(from: 700) == 700..<1026)
        #expect(set.nextRun(in: 0..<512) == 510..<512)
        #expect(set.nextRun(in: 0..<510) == nil)
        #expect(set.nextRun(in: 5..<5) == nil)
        #expect(set.nextRun(from: 0, limit: 1) == 510..<511)
        #expect(set.nextRun(from: 511, limit: 64) == 511..<575)
        #expect(set.nextRun(from: 0, limit: .max) == 510..<1026)
        #expect(set.nextRun(from: 1000, limit: 64) == 1000..<1026)
        #expect(set.nextRun(from: 1026, limit: 64) == nil)
    }

    @Test func emptyRangesChangeNothing() {
        var set = PageSet()
        set.insert(3)
        let changed7 = set.insert(10..<10)
        #expect(changed7 == 0)
        let changed8 = set.remove(3..<3)
        #expect(changed8 == 0)
        #expect(set.count(in: 3..<3) == 0)
        #expect(set.count == 1)
    }

    @Test func theLastPagesOfTheAddressSpaceAreOrdinary() {
        let last = UInt64.max >> 12
        var set = PageSet()
        set.insert(last - 1..<last + 1)
        #expect(set.contains(last))
        #expect(set.nextRun(from: 0) == last - 1..<last + 1)
        var extreme = PageSet()
        extreme.insert(UInt64.max - 2..<UInt64.max)
        #expect(extreme.count == 2)
        #expect(extreme.nextRun(from: 0) == UInt64.max - 2..<UInt64.max)
        let changed9 = extreme.remove(0..<UInt64.max)
        #expect(changed9 == 2)
    }

    @Test func removalCostsWhatTheSetHoldsAndNotWhatTheRangeSpans() {
        var set = PageSet()
        set.insert(1)
        set.insert(1 << 40)
        let changed10 = set.remove(0..<1 << 50)
        #expect(changed10 == 2)
        #expect(set.isEmpty)
        #expect(set.nextRun(from: 0) == nil)
    }

    @Test func equalityLooksAtPagesNotAtHistory() {
        var left = PageSet()
        left.insert(0..<100_000)
        left.remove(5..<99_999)
        var right = PageSet()
        right.insert(99_999)
        right.insert(0..<5)
        #expect(left == right)
        right.insert(7)
        #expect(left != right)
        right.remove(0)
        #expect(left != right)
    }

    @Test func setsAreCombined() {
        var left = PageSet()
        left.insert(0..<2_000)
        var right = PageSet()
        right.insert(1_990..<3_000)
        right.insert(10_000)
        #expect(left.intersects(right))
        #expect(left.intersection(1_995..<5_000).nextRun(from: 0) == 1_995..<2_000)
        var union = left
        union.formUnion(right)
        #expect(union.count == 3_001)
        left.subtract(right)
        #expect(left.nextRun(from: 0) == 0..<1_990)
        #expect(!left.intersects(right))
    }

    /// Random operations on this set and on a `Set`, which must agree; the seed is in the message.
    @Test(arguments: 0..<12)
    func everythingAgreesWithAPlainSet(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var set = PageSet()
        if seed % 3 == 0 { set.reserveCapacity(blocks: 16) }
        var model: Set<UInt64> = []
        let spread: UInt64 = seed % 2 == 0 ? 4_000 : 400_000
        for step in 0..<1_500 {
            let page = UInt64.random(in: 0..<spread, using: &random)
            let range = page..<page + UInt64.random(in: 0...(random.one(in: 10) ? 1_500 : 70), using: &random)
            let changed: UInt64
            let expected: Int
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<3:
                changed = set.insert(page) ? 1 : 0
                expected = model.insert(page).inserted ? 1 : 0
            case 3..<5:
                changed = set.remove(page) ? 1 : 0
                expected = model.remove(page) == nil ? 0 : 1
            case 5..<7:
                changed = set.insert(range)
                expected = range.filter { model.insert($0).inserted }.count
            default:
                changed = set.remove(range)
                expected = range.filter { model.remove($0) != nil }.count
            }
            let found = range.filter { model.contains($0) }
            let agrees =
                changed == UInt64(expected) && set.count == UInt64(model.count)
                && set.count(in: range) == UInt64(found.count)
                && set.intersects(range) == !found.isEmpty && set.contains(page) == model.contains(page)
                && set.nextRun(in: range)?.lowerBound == found.first
            #expect(agrees, "seed \(seed), step \(step)")
            guard agrees else { return }
        }
        #expect(Self.runs(of: set) == Self.runs(of: model), "seed \(seed)")
    }

    @Test func drainingALargeSetPageByPageLeavesNothing() {
        var set = PageSet()
        set.insert(0..<512 * 300)
        for page in UInt64(0)..<512 * 299 { set.remove(page) }
        let rest: Range<UInt64> = 512 * 299..<512 * 300
        #expect(set.nextRun(from: 0) == rest)
        // Blocks that were given up are used again.
        set.insert(0..<512 * 299)
        let all: Range<UInt64> = 0..<512 * 300
        #expect(set.nextRun(from: 0) == all)
        #expect(set.count == 512 * 300)
    }

    private static func runs(of set: PageSet) -> [Range<UInt64>] {
        var result: [Range<UInt64>] = []
        var position: UInt64 = 0
        while let run = set.nextRun(from: position) {
            result.append(run)
            position = run.upperBound
        }
        return result
    }

    private static func runs(of model: Set<UInt64>) -> [Range<UInt64>] {
        var result: [Range<UInt64>] = []
        for page in model.sorted() {
            if let last = result.last, last.upperBound == page {
                result[result.count - 1] = last.lowerBound..<page + 1
            } else {
                result.append(page..<page + 1)
            }
        }
        return result
    }
}
