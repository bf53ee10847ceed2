// SPDX-License-Identifier: Apache-2.0
internal import Paging

/// What the rounds of a process have said so far.
struct TrackerBooks {
    /// The mappings of the last round.
    private(set) var mappings = TrackedMappings()
    /// Pages of which a round has said that they hold data, and whose copies still stand.
    private(set) var reported = PageSet()
    /// Whether there was no round yet.
    private(set) var areNew = true

    /// Copies that the list of mappings alone makes void.
    func replaced(in current: TrackedMappings) -> PageSet {
        current.replaced(reported, since: mappings)
    }

    /// Makes the next round one that reports everything again.
    mutating func forget() {
        areNew = true
    }

    /// Enters a round that has armed what it reports.
    mutating func enter(_ round: inout TrackerRound, _ current: TrackedMappings) {
        reported.subtract(round.dropped)
        reported.formUnion(round.written)
        mappings = current
        areNew = false
        round.presentPages = reported.count
        round.mappings = current.writes(round.written, present: reported)
    }

    /// Completes the last look, which changes nothing here: should the process run on, the next round says it all again.
    func complete(_ round: inout TrackerRound) {
        var present = reported
        present.subtract(round.dropped)
        present.formUnion(round.written)
        round.presentPages = present.count
    }
}

extension TrackedMappings {
    /// What there is to say about each mapping with data.
    fileprivate func writes(_ written: PageSet, present: PageSet) -> [MappingWrites] {
        list.compactMap { mapping in
            let pages = mapping.range.pageNumbers
            let presentPages = present.count(in: pages)
            guard presentPages > 0 else { return nil }
            return MappingWrites(
                range: mapping.range,
                name: String(decoding: mapping.nameBytes, as: UTF8.self),
                written: written.count(in: pages),
                present: presentPages
            )
        }
    }
}
