// SPDX-License-Identifier: Apache-2.0
public import Paging

/// Pages to ask the source for.
public struct PageRequest: Hashable, Sendable {
    /// The first page, as an address at the source; a thread waits for it.
    public var address: VirtualAddress
    /// Number of pages, 1 to 64.
    public var count: UInt32

    /// A request for `count` pages.
    public init(address: VirtualAddress, count: UInt32) {
        self.address = address
        self.count = count
    }
}

/// Zero pages to install.
public struct ZeroFill: Hashable, Sendable {
    /// Where.
    public var space: SpaceIdentifier
    /// The first page, as an address of that space; a thread waits for it.
    public var address: VirtualAddress
    /// Number of pages, at least 1; those behind the first are for speed only.
    public var count: UInt32

    /// A fill of `count` pages.
    public init(space: SpaceIdentifier, address: VirtualAddress, count: UInt32) {
        self.space = space
        self.address = address
        self.count = count
    }
}

/// What to do about a fault.
public enum FaultAction: Hashable, Sendable {
    /// Send this request on the fault connection. The pages are taken as asked for, whether or not a thread waits for
    /// each.
    case request(PageRequest)
    /// Install zero pages and wake. When the first is already present wake it; when the range crosses the border of a
    /// mapping install the first alone; when the kernel says EAGAIN read the events and ask about the fault again.
    /// Nothing is reported back.
    case installZeros(ZeroFill)
    /// The bytes of these pages at the source are here: enter them with ``LazyPages/pagesArrived(_:)`` and install them,
    /// under the same hold of the lock. They never cross a 2 MiB boundary.
    case installLocally(PageRequest)
    /// Nothing: the page has been asked for, its install will wake the thread.
    case awaitPendingReply
    /// Nothing: the address space has ended.
    case ignore
}

extension LazyPages {
    /// A thread of `space` touched a missing page at `address`.
    ///
    /// All events of the space that could be read have been entered before. Asking twice about one fault is harmless.
    /// Allocates nothing.
    public mutating func pageFaulted(_ space: SpaceIdentifier, at address: VirtualAddress) -> FaultAction {
        guard let index = index(of: space) else { return .ignore }
        counters.faults += 1
        let page = address.pageNumber
        guard let segment = spaces[index].segments.segment(at: page) else {
            // A stack that grew, a mapping that grew in place: the source never had the page.
            return zeros(space, at: page, count: 1)
        }
        let source = segment.source + (page - segment.start)
        guard !spaces[index].guards.contains(source) else {
            counters.awaited += 1
            return .awaitPendingReply
        }
        let isDropped = segment.isDropped || spaces[index].dropped.contains(source)
        if isDropped, mayBecomeGuard(source) { return askAboutGuard(source, in: index) }
        if segment.isDropped { return zeros(space, at: page, count: 1) }
        if isZero(source, in: index) {
            return zeros(
                space,
                at: page,
                count: zeroRun(from: source, in: index, limit: segment.sourcePages.upperBound)
            )
        }
        oweAgain(source, in: index)
        guard !requested.contains(source) else {
            counters.awaited += 1
            return .awaitPendingReply
        }
        if local.contains(source) { return installLocally(source, to: segment.sourcePages.upperBound) }
        return request(source, to: segment.sourcePages.upperBound, in: index, at: page)
    }

    /// A request was answered by an error: its pages stay owed, and the next fault on one asks again.
    public mutating func requestFailed(_ request: PageRequest) {
        let page = request.address.pageNumber
        requested.remove(page..<page + UInt64(request.count))
    }

    /// The first pending request that is not below `address`, cut to what one request may ask for.
    ///
    /// After a connection broke, walk through them and send them on the new one.
    public func nextPendingRequest(from address: VirtualAddress) -> PageRequest? {
        guard let run = requested.nextRun(from: address.pageNumber) else { return nil }
        let count = min(UInt64(run.count), limits.requestedPages)
        return PageRequest(address: VirtualAddress(pageNumber: run.lowerBound), count: UInt32(count))
    }

    /// Whether `source` is zeros in a space without asking anybody.
    private func isZero(_ source: UInt64, in index: Int) -> Bool {
        if spaces[index].guards.contains(source) { return false }
        if spaces[index].dropped.contains(source) { return !mayBecomeGuard(source) }
        return isMapComplete
            ? !map.contains(source) && !spaces[index].owed.contains(source)
            : absent.contains(source)
    }

    /// Owes a page again that the books call installed and that a thread misses.
    ///
    /// The message may be stale, or the page is gone for a reason nobody told. The
    /// install finds out.
    private mutating func oweAgain(_ source: UInt64, in index: Int) {
        if isMapComplete { spaces[index].owed.insert(source) } else { spaces[index].settled.remove(source) }
    }

    private mutating func zeros(_ space: SpaceIdentifier, at page: UInt64, count: UInt64) -> FaultAction {
        counters.zeroFaults += 1
        return .installZeros(
            ZeroFill(space: space, address: VirtualAddress(pageNumber: page), count: UInt32(truncatingIfNeeded: count))
        )
    }

    /// Guards outlive what drops the pages around them, and only the source knows them all before the page map has come.
    private mutating func askAboutGuard(_ source: UInt64, in index: Int) -> FaultAction {
        spaces[index].doubtful.insert(source)
        guard requested.insert(source) else {
            counters.awaited += 1
            return .awaitPendingReply
        }
        counters.demanded += 1
        return .request(PageRequest(address: VirtualAddress(pageNumber: source), count: 1))
    }

    private func zeroRun(from source: UInt64, in index: Int, limit: UInt64) -> UInt64 {
        let end = min(limit, source + limits.zeroPages)
        var page = source + 1
        while page < end, isZero(page, in: index) { page += 1 }
        return page - source
    }

    private mutating func installLocally(_ source: UInt64, to limit: UInt64) -> FaultAction {
        counters.localFaults += 1
        let endOfBlock = (source | 511) + 1
        let window = source..<min(limit, endOfBlock, source + limits.localPages)
        let count = UInt32(truncatingIfNeeded: local.nextRun(in: window)?.count ?? 1)
        return .installLocally(PageRequest(address: VirtualAddress(pageNumber: source), count: count))
    }

    private mutating func request(_ source: UInt64, to limit: UInt64, in index: Int, at page: UInt64) -> FaultAction {
        let window = spaces[index].streams.window(at: page, limit: limits.requestedPages)
        let end = min(limit, source + window)
        var last = source + 1
        while last < end, !requested.contains(last), !local.contains(last), !isZero(last, in: index),
            spaces[index].owes(last, isMapComplete: isMapComplete)
        {
            last += 1
        }
        requested.insert(source..<last)
        counters.demanded += 1
        counters.prefetched += last - source - 1
        let count = UInt32(truncatingIfNeeded: last - source)
        return .request(PageRequest(address: VirtualAddress(pageNumber: source), count: count))
    }
}
