// SPDX-License-Identifier: Apache-2.0
public import Paging

/// Consecutive pages of an address space that come from consecutive pages of the source.
public struct Segment: Hashable, Sendable {
    /// The first page where it is now (address >> 12).
    public internal(set) var start: UInt64
    /// Number of pages.
    public internal(set) var count: UInt64
    /// The first page where it was at the source.
    public internal(set) var source: UInt64
    /// Whether a forked child gets these pages; not with MADV_DONTFORK and MADV_WIPEONFORK.
    public internal(set) var isInherited: Bool
    /// Whether mremap(2) brought it here.
    var isMoved = false
    /// Whether the application gave all of it back: zeros, but for guard pages.
    var isDropped = false

    /// A lazy mapping that is restored where it was.
    ///
    /// - Parameters:
    ///   - range: Page-aligned addresses, the same on both sides.
    ///   - isInherited: False for MADV_DONTFORK and MADV_WIPEONFORK.
    public init(_ range: AddressRange, isInherited: Bool = true) {
        let pages = range.pageNumbers
        self.start = pages.lowerBound
        self.count = UInt64(pages.count)
        self.source = pages.lowerBound
        self.isInherited = isInherited
    }

    /// The pages where they are now.
    var destinationPages: Range<UInt64> {
        start..<start + count
    }

    /// The pages where they were at the source.
    var sourcePages: Range<UInt64> {
        source..<source + count
    }

    /// The part that lies in `pages`, which must meet it.
    func clipped(to pages: Range<UInt64>) -> Segment {
        let kept = destinationPages.clamped(to: pages)
        var result = self
        result.start = kept.lowerBound
        result.count = UInt64(kept.count)
        result.source = source + (kept.lowerBound - start)
        return result
    }

    /// The part that comes from `pages` of the source, which must meet it.
    func clipped(toSource pages: Range<UInt64>) -> Segment {
        let kept = sourcePages.clamped(to: pages)
        var result = self
        result.source = kept.lowerBound
        result.count = UInt64(kept.count)
        result.start = start + (kept.lowerBound - source)
        return result
    }
}

/// The segments of one address space, found by where they are and by where they come from.
///
/// No two share a page on either side. Changes cost time in the number of segments; look-ups its logarithm.
struct SegmentTable: Sendable {
    /// Ascending by ``Segment/start``.
    private(set) var byDestination: [Segment] = []
    /// The same ones, ascending by ``Segment/source``.
    private var bySource: [Segment] = []

    init(_ segments: [Segment]) {
        for segment in segments where segment.count > 0 {
            insert(segment)
        }
    }

    /// The segment that holds `page` of the address space.
    func segment(at page: UInt64) -> Segment? {
        let index = Self.index(after: page, in: byDestination) { $0.start }
        guard index > 0, byDestination[index - 1].destinationPages.contains(page) else { return nil }
        return byDestination[index - 1]
    }

    /// The first piece of a segment in `pages` of the address space.
    func firstPiece(in pages: Range<UInt64>) -> Segment? {
        guard !pages.isEmpty else { return nil }
        if let segment = segment(at: pages.lowerBound) { return segment.clipped(to: pages) }
        let index = Self.index(after: pages.lowerBound, in: byDestination) { $0.start }
        guard index < byDestination.count, byDestination[index].start < pages.upperBound else { return nil }
        return byDestination[index].clipped(to: pages)
    }

    /// The first piece of a segment that comes from `pages` of the source.
    func firstPiece(fromSource pages: Range<UInt64>) -> Segment? {
        guard !pages.isEmpty else { return nil }
        let index = Self.index(after: pages.lowerBound, in: bySource) { $0.source }
        if index > 0, bySource[index - 1].sourcePages.contains(pages.lowerBound) {
            return bySource[index - 1].clipped(toSource: pages)
        }
        guard index < bySource.count, bySource[index].source < pages.upperBound else { return nil }
        return bySource[index].clipped(toSource: pages)
    }

    /// Adds a segment; pages of the address space that it covers must have been cut out before.
    mutating func insert(_ segment: Segment) {
        let destination = Self.index(after: segment.start, in: byDestination) { $0.start }
        byDestination.insert(segment, at: destination)
        let source = Self.index(after: segment.source, in: bySource) { $0.source }
        bySource.insert(segment, at: source)
    }

    /// Cuts the first piece in `pages` out and returns it.
    mutating func cutFirstPiece(in pages: Range<UInt64>) -> Segment? {
        guard let piece = firstPiece(in: pages) else { return nil }
        let index = Self.index(after: piece.start, in: byDestination) { $0.start } - 1
        let whole = byDestination.remove(at: index)
        let other = Self.index(after: whole.source, in: bySource) { $0.source } - 1
        bySource.remove(at: other)
        if whole.start < piece.start {
            insert(whole.clipped(to: whole.start..<piece.start))
        }
        if piece.start + piece.count < whole.start + whole.count {
            insert(whole.clipped(to: piece.start + piece.count..<whole.start + whole.count))
        }
        return piece
    }

    /// How many segments have a key that is not above `key`.
    private static func index(
        after key: UInt64,
        in segments: [Segment],
        by position: (Segment) -> UInt64
    ) -> Int {
        var low = 0
        var high = segments.count
        while low < high {
            let middle = (low + high) >> 1
            if position(segments[middle]) <= key { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
