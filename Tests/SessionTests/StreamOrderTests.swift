// SPDX-License-Identifier: Apache-2.0
import Paging
import Testing

@testable import PageServer

/// What the stream sends first.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct StreamOrderTests {
    /// Everything that the order names, as long as it names something.
    private static func drain(_ order: inout StreamOrder, of unsent: inout PageSet) -> [Range<UInt64>] {
        var runs: [Range<UInt64>] = []
        while let run = order.next(of: unsent) {
            unsent.remove(run)
            runs.append(run)
        }
        return runs
    }

    private static func pages(_ ranges: Range<UInt64>...) -> PageSet {
        var pages = PageSet()
        for range in ranges { pages.insert(range) }
        return pages
    }

    @Test func aroundTheLatestComesFirst() {
        var order = StreamOrder()
        var unsent = Self.pages(0..<1024)
        for page in [70, 130, 1000] as [UInt64] { order.needed(page) }
        #expect(Self.drain(&order, of: &unsent) == [960..<1024, 128..<192, 64..<128])
        #expect(unsent.count == 1024 - 3 * 64)
    }

    @Test func whatIsSentOrMissingIsLeftOut() {
        var order = StreamOrder()
        var unsent = Self.pages(64..<66, 100..<120, 126..<200)
        order.needed(99)
        order.needed(5000)
        #expect(Self.drain(&order, of: &unsent) == [64..<66, 100..<120, 126..<128])
    }

    @Test func aPieceIsRememberedOnce() {
        var order = StreamOrder()
        var unsent = Self.pages(0..<256)
        for page in [1, 65, 2, 66, 3] as [UInt64] { order.needed(page) }
        #expect(Self.drain(&order, of: &unsent) == [0..<64, 64..<128])
    }

    /// However many pages are needed, what is remembered is bounded, and the latest is.
    @Test func theOldestIsForgotten() {
        var order = StreamOrder()
        var unsent = Self.pages(0..<1 << 20)
        for piece in 0..<UInt64(1000) { order.needed(piece * StreamOrder.piece) }
        let runs = Self.drain(&order, of: &unsent)
        #expect(runs.count == StreamOrder.maximumPieces)
        #expect(runs.first?.lowerBound == 999 * 64 && runs.last?.lowerBound == (1000 - 64) * 64)
    }

    /// One page that a thread waits for is a sign; a walk, which asks for several, is none.
    @Test func theLedgerFollowsSinglePages() throws {
        let ledger = try PageLedger()
        ledger.willGoAhead(640..<641)
        ledger.mapScanned(Self.pages(0..<640, 641..<4096))
        _ = ledger.claimOnDemand(2050..<2051)
        _ = ledger.claimOnDemand(3000..<3032)
        let claimed = (0..<4).compactMap { _ in ledger.claimRun(limit: 64)?.pages }
        #expect(claimed == [2048..<2050, 2051..<2112, 641..<704, 0..<64])
    }
}
