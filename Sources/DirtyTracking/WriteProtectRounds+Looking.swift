// SPDX-License-Identifier: Apache-2.0
internal import Paging
internal import ProcessTrace

// What was reported earlier and is no data any more; and the last look, which arms nothing.
extension WriteProtectRounds {
    /// Adds reported pages of a span that hold no data any more to those that are dropped.
    func findLost(in span: MappingSpan, _ round: inout TrackerRound) throws(TrackingError) {
        let all = span.range.pageNumbers
        var lost = PageSet()
        guard seesHoles else {
            lost.formUnion(reported, in: all)
            guard !lost.isEmpty else { return }
            try scan(all, queries.data(span.content)) { pages, _ in lost.remove(pages) }
            round.dropped.formUnion(lost)
            return
        }
        try reported.forEachCluster(in: all) { (cluster) throws(TrackingError) in
            try scan(cluster, PageQueries.writtenOrGone) { pages, _ in lost.formUnion(reported, in: pages) }
        }
        let suspects = lost
        try suspects.forEachCluster(in: all) { (cluster) throws(TrackingError) in
            try scan(cluster, queries.data(span.content)) { pages, _ in lost.remove(pages) }
        }
        round.dropped.formUnion(lost)
    }

    /// Takes all pages of new mappings as written, and what was reported there as void.
    func collectNew(
        _ span: MappingSpan,
        in mappings: TrackedMappings,
        _ round: inout TrackerRound
    ) throws(TrackingError) {
        if case .scan = arming { try collectUnregistered(span, &round) }
        for index in span.members where doubtful.intersects(mappings.list[index].range) {
            let pages = mappings.list[index].range.pageNumbers
            round.dropped.formUnion(reported, in: pages)
            try scan(pages, queries.data(span.content)) { pages, _ in round.written.insert(pages) }
        }
    }

    private func collectUnregistered(_ span: MappingSpan, _ round: inout TrackerRound) throws(TrackingError) {
        var found = PageSet()
        try scan(span.range.pageNumbers, queries.unregisteredData(span.content)) { pages, _ in found.insert(pages) }
        round.written.formUnion(found)
        // A mapping without any page may stand where another one was.
        var lost = PageSet()
        try reported.forEachCluster(in: span.range.pageNumbers) { (cluster) throws(TrackingError) in
            try scan(cluster, PageQueries.unregistered) { pages, _ in lost.formUnion(reported, in: pages) }
        }
        round.dropped.formUnion(lost)
    }

    /// The cheap look: only page tables with something written, new or gone are looked at more closely.
    func lookAtSuspects(_ span: MappingSpan, _ round: inout TrackerRound) throws(TrackingError) {
        let all = span.range.pageNumbers
        var found = PageSet()
        var lost = PageSet()
        var position = all.lowerBound
        let query = queries.writtenData(span.content)
        try reported.forEachCluster(in: all) { (cluster) throws(TrackingError) in
            try scan(position..<cluster.lowerBound, query) { pages, _ in found.insert(pages) }
            position = cluster.upperBound
            var suspects = PageSet()
            try scan(cluster, PageQueries.writtenOrGone) { pages, _ in suspects.insert(pages) }
            lost.formUnion(reported, in: suspects)
            try suspects.forEachCluster(in: cluster) { (pages) throws(TrackingError) in
                try scan(pages, query) { pages, _ in
                    found.insert(pages)
                    lost.remove(pages)
                }
            }
        }
        try scan(position..<all.upperBound, query) { pages, _ in found.insert(pages) }
        round.written.formUnion(found)
        round.dropped.formUnion(lost)
    }

    /// The look where something thrown away may be hidden: at every page with data.
    func lookAtAll(_ span: MappingSpan, _ round: inout TrackerRound) throws(TrackingError) {
        var lost = PageSet()
        lost.formUnion(reported, in: span.range.pageNumbers)
        var found = PageSet()
        try scan(span.range.pageNumbers, queries.data(span.content)) { pages, categories in
            lost.remove(pages)
            if categories.contains(.written) { found.insert(pages) }
        }
        round.written.formUnion(found)
        round.dropped.formUnion(lost)
    }
}

extension PageSet {
    /// Puts the pages that `other` and `pages` share into the set.
    mutating func formUnion(_ other: PageSet, in pages: PageSet) {
        var position: UInt64 = 0
        while let run = pages.nextRun(from: position) {
            formUnion(other, in: run)
            position = run.upperBound
        }
    }
}
