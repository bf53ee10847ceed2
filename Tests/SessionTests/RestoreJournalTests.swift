// SPDX-License-Identifier: Apache-2.0
internal import LazyPages
internal import Paging
internal import Testing
internal import Userfaultfd

@testable internal import LazyRestore

/// What the journal of a restorer makes of its steps.
struct RestoreJournalTests {
    private let journal: RestoreJournal
    private let first = VirtualAddress(pageNumber: 0x7000_0000)
    private let digest = PageDigest(count: 64, high: 7, low: 9)

    init() throws {
        journal = RestoreJournal(events: try EventJournal())
    }

    private func settle(_ pages: Range<UInt64>, in space: SpaceIdentifier = .process) {
        journal.note(.settled(space, SettledPages(first: pages.lowerBound, count: UInt64(pages.count))))
    }

    private var pages: Range<UInt64> { first.pageNumber..<first.pageNumber + 64 }

    private func described() -> [String] {
        (0..<journal.events.count).map { index in
            switch journal.entry(index) {
            case .step(.settled(let space, let settled), _)?: "settled \(space.number) \(place(settled))"
            case .step(.arrived(let address, let first), let digest)?:
                "arrived \(address.pageNumber - self.first.pageNumber) \(first.count) \(digest.value)"
            case .settledArrived(let space, let settled, let digest)?:
                "both \(space.number) \(place(settled)) \(digest.count) \(digest.value)"
            case .pageMap(let runs)?: "map " + runs.map(place).joined(separator: " ")
            case .step(.pageMapArrived(let run), _)?: "long \(place(run))"
            default: "other"
            }
        }
    }

    private func place(_ settled: SettledPages) -> String { "\(settled.first - first.pageNumber) \(settled.count)" }

    private func place(_ run: PageRun) -> String { "\(run.address.pageNumber)+\(run.count)" }

    @Test func aFrameOfPagesTakesOneRecord() {
        for start in stride(from: pages.lowerBound, to: pages.upperBound, by: 16) { settle(start..<start + 16) }
        journal.note(.arrived(first, FirstArrivals(bits: .max)), digest)
        #expect(described() == ["both 0 0 64 64 (high: 7, low: 9)"])
        // The next one has its own.
        settle(pages.upperBound..<pages.upperBound + 1)
        #expect(described() == ["both 0 0 64 64 (high: 7, low: 9)", "settled 0 64 1"])
        journal.note(
            .arrived(VirtualAddress(pageNumber: pages.upperBound), FirstArrivals(bits: 1)),
            PageDigest(count: 1, high: 3, low: 4)
        )
        #expect(described() == ["both 0 0 64 64 (high: 7, low: 9)", "both 0 64 1 1 (high: 3, low: 4)"])
    }

    /// Whatever is noted in between is found in between.
    @Test func theOrderIsKept() {
        settle(pages.lowerBound..<pages.lowerBound + 16)
        journal.note(.spaceEnded(SpaceIdentifier(number: 5)))
        settle(pages.lowerBound + 16..<pages.lowerBound + 32)
        settle(pages.lowerBound + 32..<pages.lowerBound + 48, in: SpaceIdentifier(number: 1))
        settle(pages.lowerBound..<pages.lowerBound + 16, in: SpaceIdentifier(number: 1))
        #expect(described() == ["settled 0 0 16", "other", "settled 0 16 16", "settled 1 32 16", "settled 1 0 16"])
    }

    /// A restorer may be killed between two words of a change: the digest is there, the kind is not.
    @Test func whoIsKilledWhileItAmendsLeavesTheRecordAsItWas() throws {
        settle(pages)
        var torn = try #require(journal.events.latest)
        (torn.third, torn.fourth) = digest.value
        journal.events.amendLatest(torn)
        #expect(described() == ["settled 0 0 64"])
    }

    @Test(arguments: [UInt64.max << 1, UInt64.max >> 1, 0, 0x7fff])
    func whatHasNotAllComeForTheFirstTimeIsNotedByItself(bits: UInt64) {
        settle(pages)
        journal.note(.arrived(first, FirstArrivals(bits: bits)), digest)
        #expect(described() == ["settled 0 0 64", "arrived 0 \(bits.nonzeroBitCount) (high: 7, low: 9)"])
    }

    @Test func pagesOfSeveralArrivalsAreNotTakenForOne() {
        settle(pages)
        settle(pages.upperBound..<pages.upperBound + 64)
        journal.note(.arrived(first, FirstArrivals(bits: .max)), digest)
        #expect(described() == ["settled 0 0 128", "arrived 0 64 (high: 7, low: 9)"])
    }

    @Test func fourShortRunsOfTheMapTakeOneRecord() {
        func run(_ page: UInt64, _ count: UInt64) -> PageRun {
            PageRun(address: VirtualAddress(pageNumber: page), count: count)
        }
        let most: UInt64 = 0xf_ffff
        let last: UInt64 = 0xfff_ffff_ffff
        let runs = [
            run(1, 1), run(2000, 64), run(3000, most + 1), run(9_000_000, most), run(last, 1), run(last + 1, 2),
        ]
        journal.notePageMap(runs)
        let expected = ["long 3000+\(most + 1)", "map 1+1 2000+64 9000000+\(most) \(last)+1", "long \(last + 1)+2"]
        #expect(described() == expected)
    }
}
