// SPDX-License-Identifier: Apache-2.0
public import Paging

// The connections to the source have broken and the source is back: what it has to send.
extension LazyPages {
    /// Pages of the page map that have to come, or that an address space still waits for; nil until the map is complete.
    ///
    /// - Parameter withoutLocal: leave out what was pre-copied and is right.
    public func missingPages(withoutLocal: Bool) -> PageSet? {
        guard isMapComplete else { return nil }
        var missing = outstanding
        for space in spaces {
            var position: UInt64 = 0
            while let owed = space.owed.nextRun(from: position) {
                position = owed.upperBound
                var rest = owed
                while let run = map.nextRun(in: rest) {
                    missing.insert(run)
                    rest = run.upperBound..<owed.upperBound
                }
            }
        }
        if withoutLocal { missing.subtract(local) }
        return missing
    }

    /// Whether the source has to send anything: pages that were pre-copied and are right come without it.
    public var needsSource: Bool { missingPages(withoutLocal: true)?.isEmpty != true }

    /// Forgets the pieces of a page map that has not come whole: it comes again from its beginning.
    ///
    /// - Returns: the pages that are there.
    public mutating func forgetPartialMap() -> PageSet {
        precondition(!isMapComplete, "LazyPages: the page map is complete")
        map = PageSet()
        return early
    }

    /// The first pages from `page` of the source on that a space is owed and that are not here: at most `limit` pages in one piece.
    ///
    /// Nothing before the page map is complete.
    public func nextOwedRun(
        of space: SpaceIdentifier,
        from page: UInt64,
        limit: UInt64
    ) -> (source: Range<UInt64>, range: AddressRange)? {
        guard isMapComplete, let index = index(of: space) else { return nil }
        var position = page
        while let run = spaces[index].owed.nextRun(from: position) {
            position = run.upperBound
            var rest = run
            while let piece = spaces[index].segments.firstPiece(fromSource: rest) {
                rest = piece.sourcePages.upperBound..<run.upperBound
                guard let lacking = firstLacking(in: piece.sourcePages) else { continue }
                let source = lacking.lowerBound..<min(lacking.upperBound, lacking.lowerBound + limit)
                let start = piece.start + (source.lowerBound - piece.source)
                return (source, AddressRange(pageNumbers: start..<start + UInt64(source.count)))
            }
        }
        return nil
    }

    /// The first of these pages whose bytes were not pre-copied.
    private func firstLacking(in pages: Range<UInt64>) -> Range<UInt64>? {
        var position = pages.lowerBound
        while position < pages.upperBound {
            guard let here = local.nextRun(in: position..<pages.upperBound) else { return position..<pages.upperBound }
            if position < here.lowerBound { return position..<here.lowerBound }
            position = here.upperBound
        }
        return nil
    }
}
