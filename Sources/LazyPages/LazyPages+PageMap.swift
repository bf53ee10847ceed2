// SPDX-License-Identifier: Apache-2.0
public import Paging

extension LazyPages {
    /// A piece of the page map came: these pages exist at the source.
    ///
    /// - Throws: ``LazyPagesError`` when it comes too late, is too large or leaves lazy memory.
    public mutating func pageMapArrived(_ runs: [PageRun]) throws(LazyPagesError) {
        guard !isMapComplete else {
            throw LazyPagesError(.mapAlreadyComplete, "a piece of the page map came after its last one")
        }
        for run in runs {
            guard run.count <= limits.mappedPages, map.count + run.count <= limits.mappedPages else {
                throw LazyPagesError(.mapTooLarge, "the page map holds more than \(limits.mappedPages) pages")
            }
            let first = run.address.pageNumber
            guard run.count > 0, isLazy(first..<first + run.count) else {
                throw LazyPagesError(.outsideOfLazyMemory, "the page map names \(run), which is in no lazy mapping")
            }
            map.insert(first..<first + run.count)
        }
    }

    /// That was the last piece of the page map: every page outside of it is zeros.
    ///
    /// - Throws: ``LazyPagesError`` when the map contradicts pages that have come.
    public mutating func pageMapCompleted() throws(LazyPagesError) {
        guard !isMapComplete else {
            throw LazyPagesError(.mapAlreadyComplete, "the page map ended twice")
        }
        guard !map.intersects(absent) else {
            throw LazyPagesError(.contradiction, "the page map names a page that was called absent before")
        }
        guard !map.intersects(guardPages) else {
            throw LazyPagesError(.contradiction, "the page map names a page that was called a guard page before")
        }
        var unnamed = early
        unnamed.subtract(map)
        guard unnamed.isEmpty else {
            throw LazyPagesError(.contradiction, "\(unnamed.count) pages came that the page map does not name")
        }
        isMapComplete = true
        outstanding = map
        outstanding.subtract(early)
        early = PageSet()
        absent = PageSet()
        for index in spaces.indices { makeOwed(index) }
    }

    /// Turns "all but what is settled" into the pages that a space is owed.
    ///
    /// Pages asked for and not answered stay owed even if the map does not name them, because a thread waits for the
    /// answer.
    private mutating func makeOwed(_ index: Int) {
        var owed = PageSet()
        for segment in spaces[index].segments.byDestination where !segment.isDropped {
            for set in [map, requested] {
                var rest = segment.sourcePages
                while let run = set.nextRun(in: rest) {
                    owed.insert(run)
                    rest = run.upperBound..<segment.sourcePages.upperBound
                }
            }
        }
        owed.subtract(spaces[index].settled)
        owed.subtract(spaces[index].dropped)
        owed.subtract(guardPages)
        spaces[index].owed = owed
        spaces[index].settled = PageSet()
    }
}
