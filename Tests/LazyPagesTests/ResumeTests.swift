// SPDX-License-Identifier: Apache-2.0
import LazyPages
import Paging
import TestSupport
import Testing

/// What is asked for when the connections to the source were lost.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct ResumeTests {
    private static func pages(_ range: Range<UInt64>) -> PageSet {
        var pages = PageSet()
        pages.insert(range)
        return pages
    }

    private static func address(_ page: UInt64) -> VirtualAddress { VirtualAddress(page << 12) }

    private static func books() -> LazyPages {
        LazyPages(segments: [Segment(AddressRange(address(0x100), address(0x200)))])
    }

    private static func run(_ first: UInt64, _ count: UInt64) -> PageRun {
        PageRun(address: address(first), count: count)
    }

    /// Installs what has come, wherever it is owed.
    private static func install(_ arrival: Arrival, in books: inout LazyPages) throws {
        _ = try books.pagesArrived(arrival)
        while let install = books.nextInstall(of: arrival) { books.installed(install, .installed(install.count)) }
    }

    @Test func aMapThatCameInPartIsForgottenAndPagesAreNot() throws {
        var books = Self.books()
        try books.pageMapArrived([Self.run(0x100, 4)])
        try Self.install(Arrival(address: Self.address(0x101), count: 2, content: .data), in: &books)
        #expect(books.missingPages(withoutLocal: true) == nil)
        let needsSource = books.needsSource
        #expect(needsSource)
        #expect(books.forgetPartialMap() == Self.pages(0x101..<0x103))
        #expect(books.mappedPages == 0)
        try books.pageMapArrived([Self.run(0x101, 8)])
        try books.pageMapCompleted()
        #expect(books.mappedPages == 8)
        #expect(books.missingPages(withoutLocal: true) == Self.pages(0x103..<0x109))
    }

    @Test func whatWasPreCopiedIsMissingUntilItIsKnownToBeRight() throws {
        var books = Self.books()
        try books.pageMapArrived([Self.run(0x100, 16)])
        try books.pageMapCompleted()
        try books.preCopyMapArrived([Self.run(0x104, 4)])
        #expect(books.missingPages(withoutLocal: false) == Self.pages(0x100..<0x110))
        var rest = Self.pages(0x100..<0x110)
        rest.remove(0x104..<0x108)
        #expect(books.missingPages(withoutLocal: true) == rest)
        let needsSource = books.needsSource
        #expect(needsSource)
    }

    /// However long installing what was pre-copied takes, the source need not say anything meanwhile.
    @Test func whatIsHereNeedsNoSource() throws {
        var books = Self.books()
        try books.pageMapArrived([Self.run(0x100, 4)])
        try books.pageMapCompleted()
        try books.preCopyMapArrived([Self.run(0x100, 2)])
        try Self.install(Arrival(address: Self.address(0x102), count: 1, content: .data), in: &books)
        let needsSource = books.needsSource
        #expect(needsSource)
        try Self.install(Arrival(address: Self.address(0x103), count: 1, content: .data), in: &books)
        let stillNeedsSource = books.needsSource
        #expect(!stillNeedsSource)
        let hasAllPages = books.hasAllPages
        #expect(!hasAllPages)
    }

    /// A page may have come and not be where it belongs: another address space, or an install that was cut off.
    @Test func aPageThatIsOwedToAnySpaceIsMissing() throws {
        var books = Self.books()
        try books.pageMapArrived([Self.run(0x100, 4)])
        try books.pageMapCompleted()
        let arrival = Arrival(address: Self.address(0x100), count: 2, content: .data)
        _ = try books.pagesArrived(arrival)
        #expect(books.missingPages(withoutLocal: true) == Self.pages(0x100..<0x104))
        while let install = books.nextInstall(of: arrival) { books.installed(install, .installed(install.count)) }
        #expect(books.missingPages(withoutLocal: true) == Self.pages(0x102..<0x104))
        // Asked for by a thread, and by nobody.
        _ = books.pageFaulted(.process, at: Self.address(0x150))
        #expect(books.missingPages(withoutLocal: true) == Self.pages(0x102..<0x104), "only what the map names")
    }

    /// What a lost source still has to bring, where it is now, without what was pre-copied.
    @Test func whatIsOwedAndNotHereIsFoundWhereItIs() throws {
        var books = Self.books()
        #expect(books.nextOwedRun(of: .process, from: 0, limit: 8) == nil)
        try books.pageMapArrived([Self.run(0x100, 4), Self.run(0x110, 16)])
        try books.pageMapCompleted()
        try books.preCopyMapArrived([Self.run(0x110, 4), Self.run(0x118, 8)])
        try Self.install(Arrival(address: Self.address(0x101), count: 1, content: .data), in: &books)
        books.remapped(.process, from: Self.address(0x102), to: Self.address(0x900), length: 2 << 12)
        var found: [[UInt64]] = []
        var position: UInt64 = 0
        while let owed = books.nextOwedRun(of: .process, from: position, limit: 3) {
            position = owed.source.upperBound
            found.append([owed.source.lowerBound, owed.source.upperBound, owed.range.lowerBound.pageNumber])
        }
        let moved: [[UInt64]] = [[0x100, 0x101, 0x100], [0x102, 0x104, 0x900]]
        #expect(found == moved + [[0x114, 0x117, 0x114], [0x117, 0x118, 0x117]])
    }
}
