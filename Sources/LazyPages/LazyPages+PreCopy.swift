// SPDX-License-Identifier: Apache-2.0
public import Paging

extension LazyPages {
    /// These pages of the page map were pre-copied and have not changed since: their bytes need not be asked for.
    ///
    /// Pages that have arrived meanwhile are left out.
    ///
    /// - Throws: ``LazyPagesError`` when the page map is not complete or does not name them.
    public mutating func preCopyMapArrived(_ runs: [PageRun]) throws(LazyPagesError) {
        guard isMapComplete else {
            throw LazyPagesError(.contradiction, "the map of pre-copied pages came before the page map")
        }
        for run in runs {
            let first = run.address.pageNumber
            let pages = first..<first + run.count
            guard map.count(in: pages) == run.count else {
                throw LazyPagesError(.contradiction, "\(run) were pre-copied, but the page map does not name them")
            }
            var rest = pages
            while let owed = outstanding.nextRun(in: rest) {
                local.insert(owed)
                rest = owed.upperBound..<pages.upperBound
            }
        }
    }

    /// What was pre-copied is gone, or the map of it has not come whole: all of it is asked for.
    public mutating func forgetPreCopied() {
        local = PageSet()
    }

    /// The first run of pre-copied pages from `page` on that no space has got yet, at most `limit` of them and never
    /// across a 2 MiB boundary.
    ///
    /// Enter it with ``pagesArrived(_:)`` and install it.
    public func nextLocalRun(from page: UInt64, limit: UInt64) -> Range<UInt64>? {
        guard let run = local.nextRun(from: page, limit: limit) else { return nil }
        let endOfBlock = (run.lowerBound | 511) + 1
        return run.lowerBound..<min(run.upperBound, endOfBlock)
    }
}
