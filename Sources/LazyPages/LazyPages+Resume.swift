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

    /// Forgets the pieces of a page map that has not come whole: it comes again from its beginning.
    ///
    /// - Returns: the pages that are there.
    public mutating func forgetPartialMap() -> PageSet {
        precondition(!isMapComplete, "LazyPages: the page map is complete")
        map = PageSet()
        return early
    }
}
