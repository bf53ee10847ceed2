// SPDX-License-Identifier: Apache-2.0
public import Paging

/// Pages to ask the source for.
public struct PageRequest: Hashable, Sendable {
    /// The first page, as an address at the source.
    public var address: VirtualAddress
    /// Number of pages, 1 to 64.
    public var count: UInt32
    /// How many of them, at the end, no thread waits for: those need not be sent when they are on their way by the stream.
    public var expected: UInt32

    /// A request for `count` pages.
    public init(address: VirtualAddress, count: UInt32, expected: UInt32 = 0) {
        self.address = address
        self.count = count
        self.expected = expected
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
    /// Send this request on the fault connection, and those of ``LazyPages/nextRequestAhead()``. The pages are taken as
    /// asked for, whether or not a thread waits for each.
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
    /// Wake the page: it is in the shared object.
    case wake
    /// Nothing, until ``LazyPages/owesNothing(_:)`` says that all shared memory is there: an event that cannot be read before may have moved
    /// what is touched. Then wake everything.
    case awaitEverything
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
        if space == .objects { return objectFaulted(page, in: index) }
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
        return request(source, of: segment, in: index)
    }

    /// A page of a shared object is not there, or was put into it in this moment.
    private mutating func objectFaulted(_ page: UInt64, in index: Int) -> FaultAction {
        guard let segment = spaces[index].segments.segment(at: page) else { return .awaitEverything }
        let source = segment.source + (page - segment.start)
        // What is there is not asked for again: since then the process may have changed it or taken it out.
        if isZero(source, in: index) { return zeros(.objects, at: page, count: 1) }
        guard spaces[index].owes(source, isMapComplete: isMapComplete) else { return .wake }
        guard !requested.contains(source) else {
            counters.awaited += 1
            return .awaitPendingReply
        }
        return request(source, of: segment, in: index)
    }

    /// What else to ask for because a space has to get everything soon; what is answered is taken as asked for.
    ///
    /// Nothing before the page map is complete.
    public mutating func nextRequest(forAllOf space: SpaceIdentifier) -> PageRequest? {
        guard isMapComplete, let index = index(of: space) else { return nil }
        var position: UInt64 = 0
        while let run = spaces[index].owed.nextRun(from: position) {
            var page = run.lowerBound
            while page < run.upperBound {
                if let asked = requested.nextRun(in: page..<run.upperBound), asked.lowerBound == page {
                    page = asked.upperBound
                    continue
                }
                let end = requested.nextRun(in: page..<run.upperBound)?.lowerBound ?? run.upperBound
                let count = min(end - page, limits.requestedPages)
                requested.insert(page..<page + count)
                counters.prefetched += count
                return PageRequest(address: VirtualAddress(pageNumber: page), count: UInt32(count))
            }
            position = run.upperBound
        }
        return nil
    }

    /// A request was answered by an error: its pages stay owed, and the next fault on one asks again.
    public mutating func requestFailed(_ request: PageRequest) {
        let page = request.address.pageNumber
        requested.remove(page..<page + UInt64(request.count))
    }

    /// The source does not answer for these pages, for which no thread waited when they were asked for: they are on their way by the stream.
    ///
    /// Who touches one waits for that. Those that have come already, and that are missed again for a reason nobody told, do not come by it:
    /// they count as not asked for.
    ///
    /// - Returns: such pages, if there are any; threads that wait for them by now have to be woken, to ask again.
    public mutating func sentByStream(_ pages: Range<UInt64>) -> Range<UInt64>? {
        var first: UInt64?
        var last: UInt64 = 0
        for page in pages where requested.contains(page) {
            guard isMapComplete ? !outstanding.contains(page) : early.contains(page) else {
                promised.insert(page)
                continue
            }
            requested.remove(page)
            first = first ?? page
            last = page
        }
        return first.map { $0..<last + 1 }
    }

    /// Whether pages are waited for that the stream is to bring.
    public var awaitsStream: Bool { !promised.isEmpty }

    /// The stream stands still: a run of pages that it was to bring, which counts as not asked for from now on; nil when there is none left.
    ///
    /// Threads that wait for them have to be woken, to ask.
    public mutating func nextBrokenPromise() -> Range<UInt64>? {
        guard let run = promised.nextRun(from: 0) else { return nil }
        promised.remove(run)
        requested.remove(run)
        return run
    }

    /// There are new connections: nothing is on its way, and everything that was asked for is asked for again.
    public mutating func connectionsRenewed() {
        promised = PageSet()
    }

    /// Where the first of `pages` that `space` maps are there; nil when it maps none of them.
    public func place(of pages: Range<UInt64>, in space: SpaceIdentifier) -> (range: AddressRange, rest: Range<UInt64>)?
    {
        guard let index = index(of: space), let piece = spaces[index].segments.firstPiece(fromSource: pages) else {
            return nil
        }
        return (AddressRange(pageNumbers: piece.destinationPages), piece.sourcePages.upperBound..<pages.upperBound)
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

    private mutating func request(_ source: UInt64, of segment: Segment, in index: Int) -> FaultAction {
        let advice = spaces[index].streams.advice(
            at: segment.start + (source - segment.source),
            limit: limits.requestedPages
        )
        ahead = RequestsAhead(
            space: spaces[index].identifier,
            pages: segment.sourcePages,
            next: source &+ UInt64(bitPattern: advice.step),
            step: advice.step,
            count: advice.count - 1
        )
        var last = source
        // A page that is there ends the request, but not the walk.
        while advice.step == 1, let next = ahead.nextPage, isWorthAsking(for: next, in: index) {
            last = ahead.take(next)
        }
        requested.insert(source..<last + 1)
        counters.demanded += 1
        counters.prefetched += last - source
        let count = UInt32(truncatingIfNeeded: last - source + 1)
        return .request(
            PageRequest(address: VirtualAddress(pageNumber: source), count: count, expected: count - 1)
        )
    }

    /// Whether a page that no thread waits for is owed and has not been asked for.
    private func isWorthAsking(for source: UInt64, in index: Int) -> Bool {
        !requested.contains(source) && !local.contains(source) && !isZero(source, in: index)
            && spaces[index].owes(source, isMapComplete: isMapComplete)
    }

    /// What else to ask for after ``FaultAction/request(_:)``, because a walk is about to touch it; ask until there is no
    /// more, before anything else is entered.
    ///
    /// Each is a request of its own, so that the page that a thread waits for comes first and nothing in between is carried. What is
    /// not taken here is not taken as asked for. Allocates nothing.
    public mutating func nextRequestAhead() -> PageRequest? {
        guard let index = index(of: ahead.space) else { return nil }
        while let page = ahead.nextPage {
            var last = ahead.take(page)
            guard isWorthAsking(for: page, in: index) else { continue }
            while ahead.step.magnitude == 1, let next = ahead.nextPage, isWorthAsking(for: next, in: index) {
                last = ahead.take(next)
            }
            let pages = min(page, last)..<max(page, last) + 1
            requested.insert(pages)
            counters.prefetched += UInt64(pages.count)
            let count = UInt32(truncatingIfNeeded: pages.count)
            return PageRequest(
                address: VirtualAddress(pageNumber: pages.lowerBound),
                count: count,
                expected: count
            )
        }
        return nil
    }
}

/// Pages at the source that a walk is about to touch.
struct RequestsAhead: Sendable {
    var space = SpaceIdentifier.process
    /// Those of the segment in which it walks.
    var pages: Range<UInt64> = 0..<0
    var next: UInt64 = 0
    var step: Int64 = 1
    var count: UInt64 = 0

    /// The next page of the walk, which ends where the segment does.
    var nextPage: UInt64? { count > 0 && pages.contains(next) ? next : nil }

    /// Takes ``nextPage``.
    mutating func take(_ page: UInt64) -> UInt64 {
        next = page &+ UInt64(bitPattern: step)
        count -= 1
        return page
    }
}
