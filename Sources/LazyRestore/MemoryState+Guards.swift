// SPDX-License-Identifier: Apache-2.0
internal import LazyPages
internal import LinuxSystem
internal import Paging
internal import Reporting
internal import Userfaultfd

// Guard pages that the grant did not name.
extension MemoryState {
    /// The source names guard pages.
    mutating func guardsArrived(_ runs: [PageRun]) throws(LazyPagesError) {
        try books.guardsArrived(runs)
        if let journal { for run in runs { journal.note(.guardsArrived(run)) } }
    }

    /// The source answers a request with guard pages.
    mutating func requestMetGuards(_ run: PageRun) throws(LazyPagesError) {
        try books.requestMetGuards(run)
        journal?.note(.guardsArrived(run))
    }

    private mutating func guardsInstalled(_ space: SpaceIdentifier, _ range: AddressRange) {
        books.guardsInstalled(space, range)
        journal?.note(.guardsInstalled(space, range))
    }

    /// Whether a space waits for guard pages.
    var owesGuards: Bool {
        books.livingSpaces.contains { books.nextPendingGuards(of: $0) != nil }
    }

    /// Whether the restored process itself does.
    var processOwesGuards: Bool {
        books.nextPendingGuards(of: .process) != nil
    }

    /// Whether a thread of the process waits inside of a system call where a guard page has to be: it cannot be stopped before that is there.
    var systemCallsWaitForGuards: Bool {
        stalls.isAnyoneWaiting { space, page, thread in
            space == SpaceIdentifier.process.number
                && books.isPendingGuard(.process, at: VirtualAddress(pageNumber: page))
                && lookup.isInSystemCall(Int32(bitPattern: thread))
        }
    }

    /// Guard pages of the process, which has not run yet, to be installed before it does.
    mutating func takeGuards() -> [AddressRange] {
        var ranges: [AddressRange] = []
        while let range = books.nextPendingGuards(of: .process) {
            ranges.append(range)
            guardsInstalled(.process, range)
        }
        return ranges
    }

    /// Makes whoever touches the guard pages that the process waits for get SIGBUS, which is all that can be done from outside.
    ///
    /// - Returns: where, for guard pages to take their place.
    mutating func poisonGuards() throws(SystemCallError) -> [AddressRange] {
        // Moves and forks that are over by now are entered first.
        _ = try service()
        return try poisonGuards(of: .process)
    }

    /// The same for every child that was forked before its parent got its guards.
    ///
    /// Nobody knows by which number such a child could be stopped; so its guards raise SIGBUS where the parent's raise SIGSEGV.
    mutating func poisonGuardsOfChildren() throws(SystemCallError) {
        _ = try service()
        for space in books.livingSpaces where space != .process { _ = try poisonGuards(of: space) }
    }

    private mutating func poisonGuards(of space: SpaceIdentifier) throws(SystemCallError) -> [AddressRange] {
        var poisoned: [AddressRange] = []
        var limit = UInt64.max
        var tries = 0
        while let range = books.nextPendingGuards(of: space) {
            guard let handle = handle(of: space) else {
                ended(space)
                return poisoned
            }
            let pages = min(limit, range.byteCount / PageSize.base)
            let part = PageRun(address: range.lowerBound, count: pages).range
            switch try handle.uffd.poison(part) {
            case .installed:
                poisoned.append(part)
                settleGuards(space, part)
            case .partial(let count):
                let done = PageRun(address: range.lowerBound, count: UInt64(count)).range
                poisoned.append(done)
                settleGuards(space, done)
            case .vanished where pages > 1:
                // The range may cross the border of two mappings.
                limit = 1
            case .alreadyPresent, .vanished:
                // A marker of an earlier attempt, or memory that is mapped no more.
                let page = PageRun(address: range.lowerBound, count: 1).range
                poisoned.append(page)
                settleGuards(space, page)
                try handle.uffd.wake(page)
            case .interrupted:
                tries += 1
                guard tries < Self.immediateRetries else { return poisoned }
                Processor.yield()
                _ = try service()
            case .targetGone: gone(handle)
            }
        }
        return poisoned
    }

    private mutating func settleGuards(_ space: SpaceIdentifier, _ range: AddressRange) {
        guardsInstalled(space, range)
        ended(space, range)
    }
}
