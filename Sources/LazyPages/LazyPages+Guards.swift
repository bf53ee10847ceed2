// SPDX-License-Identifier: Apache-2.0
public import Paging

// Guard pages (MADV_GUARD_INSTALL) that the process installed in the moment before the freeze. The grant does not name
// them, since the source still looked for them then; the copy runs already, so its threads must wait where they touch one.
extension LazyPages {
    /// The source says that these pages are guard pages, which the grant did not name.
    ///
    /// Nothing is installed there any more, and threads that touch one wait, until each space has its guards: see
    /// ``nextPendingGuards(of:)``. Said again it changes nothing.
    ///
    /// - Throws: ``LazyPagesError`` when it comes too late, is too large, leaves lazy memory, or names pages that hold data.
    public mutating func guardsArrived(_ runs: [PageRun]) throws(LazyPagesError) {
        for run in runs {
            guard run.count > 0, run.count <= limits.mappedPages else {
                throw LazyPagesError(.mapTooLarge, "\(run) cannot be guard pages")
            }
            let first = run.address.pageNumber
            try enterGuards(first..<first + run.count)
        }
    }

    /// The same, in answer to a request for the pages.
    ///
    /// - Throws: ``LazyPagesError`` as ``guardsArrived(_:)``.
    public mutating func requestMetGuards(_ run: PageRun) throws(LazyPagesError) {
        try guardsArrived([run])
        requested.remove(run.pageNumbers)
    }

    /// Where guard pages have to be installed in `space` next; nil when none are missing.
    public func nextPendingGuards(of space: SpaceIdentifier) -> AddressRange? {
        guard let index = index(of: space), let run = spaces[index].guards.nextRun(from: 0) else { return nil }
        return spaces[index].segments.firstPiece(fromSource: run).map { AddressRange(pageNumbers: $0.destinationPages) }
    }

    /// Whether a guard page has to be installed at `address` of `space`.
    public func isPendingGuard(_ space: SpaceIdentifier, at address: VirtualAddress) -> Bool {
        let page = address.pageNumber
        guard let index = index(of: space), let segment = spaces[index].segments.segment(at: page) else { return false }
        return spaces[index].guards.contains(segment.source + (page - segment.start))
    }

    /// Guard pages stand in `range` of `space`, or whoever touches it gets SIGBUS: nothing is owed there any more.
    ///
    /// What the application makes of the guards from then on is its own affair: a page that it takes the guard off is zeros.
    public mutating func guardsInstalled(_ space: SpaceIdentifier, _ range: AddressRange) {
        guard let index = index(of: space) else { return }
        var rest = range.pageNumbers
        while let piece = spaces[index].segments.firstPiece(in: rest) {
            while let run = spaces[index].guards.nextRun(in: piece.sourcePages) {
                spaces[index].guards.remove(run)
                spaces[index].dropped.insert(run)
            }
            rest = piece.destinationPages.upperBound..<rest.upperBound
        }
    }

    private mutating func enterGuards(_ pages: Range<UInt64>) throws(LazyPagesError) {
        guard isLazy(pages) else {
            throw LazyPagesError(.outsideOfLazyMemory, "\(PageRun(pageNumbers: pages)) are guards in no lazy mapping")
        }
        if let index = index(of: .objects), spaces[index].segments.firstPiece(fromSource: pages) != nil {
            throw LazyPagesError(.contradiction, "\(PageRun(pageNumbers: pages)) are guards in shared memory")
        }
        guard !map.intersects(pages), !early.intersects(pages), !absent.intersects(pages) else {
            throw LazyPagesError(.contradiction, "guard pages among \(PageRun(pageNumbers: pages)) were none before")
        }
        var fresh = PageSet()
        fresh.insert(pages)
        fresh.subtract(guardPages)
        guard !fresh.isEmpty else { return }
        guard !isMapComplete else {
            throw LazyPagesError(.contradiction, "guards among \(PageRun(pageNumbers: pages)) were not named in time")
        }
        guard guardPages.count + fresh.count <= limits.mappedPages else {
            throw LazyPagesError(.mapTooLarge, "there are more than \(limits.mappedPages) guard pages")
        }
        guardPages.formUnion(fresh)
        for index in spaces.indices {
            for piece in pieces(of: fresh, in: index) {
                spaces[index].guards.insert(piece.sourcePages)
                spaces[index].doubtful.remove(piece.sourcePages)
            }
        }
    }

    /// Whether the source may still say that this page is a guard page.
    func mayBecomeGuard(_ source: UInt64) -> Bool {
        !isMapComplete && !early.contains(source) && !absent.contains(source) && !guardPages.contains(source)
    }

    /// Where these pages of the source are in an address space.
    private func pieces(of pages: PageSet, in index: Int) -> [Segment] {
        var result: [Segment] = []
        var position: UInt64 = 0
        while let run = pages.nextRun(from: position) {
            position = run.upperBound
            var rest = run
            while let piece = spaces[index].segments.firstPiece(fromSource: rest) {
                result.append(piece)
                rest = piece.sourcePages.upperBound..<run.upperBound
            }
        }
        return result
    }
}
