// SPDX-License-Identifier: Apache-2.0
public import Paging

/// Pages that came from the source, by either connection.
public struct Arrival: Hashable, Sendable {
    /// What came.
    public enum Content: Hashable, Sendable {
        /// Bytes.
        case data
        /// The pages exist at the source and are all zeros.
        case zeros
        /// The pages do not exist at the source.
        case absent
    }

    /// The first page, as an address at the source.
    public var address: VirtualAddress
    /// Number of pages, 1 to 64.
    public var count: UInt32
    /// What came.
    public var content: Content

    /// An arrival of `count` pages.
    public init(address: VirtualAddress, count: UInt32, content: Content) {
        precondition((1...64).contains(count), "Arrival: 1 to 64 pages")
        self.address = address
        self.count = count
        self.content = content
    }

    var pages: Range<UInt64> {
        address.pageNumber..<address.pageNumber + UInt64(count)
    }
}

/// Which pages of an arrival came for the first time: those that count for COMPLETE.
public struct FirstArrivals: Hashable, Sendable {
    /// Bit n stands for page n of the arrival.
    public var bits: UInt64

    /// Those whose bits are set.
    public init(bits: UInt64) {
        self.bits = bits
    }

    /// Whether page `index` of the arrival is among them.
    public func contains(_ index: Int) -> Bool {
        bits & (1 << UInt64(index)) != 0
    }

    /// How many there are.
    public var count: Int {
        bits.nonzeroBitCount
    }
}

/// Pages of an arrival to install.
public struct Install: Hashable, Sendable {
    /// Where.
    public var space: SpaceIdentifier
    /// The first page, as an address of that space.
    public var address: VirtualAddress
    /// The first page, counted in the arrival.
    public var offset: Int
    /// Number of pages.
    public var count: Int
    /// Whether the pages are zeros: no bytes are there to copy.
    public var isZeros: Bool
    /// The first page at the source.
    var source: UInt64
}

/// What the kernel did with an install.
public enum InstallOutcome: Hashable, Sendable {
    /// This many of the pages, from the first on, are there now and their threads are awake; zero with EAGAIN.
    case installed(Int)
    /// The first page was there already. Its threads have been woken (the kernel does not).
    case alreadyPresent
    /// No registered mapping holds the whole range (ENOENT): ask for the next install with `limit` 1; when it was one
    /// page it is given up.
    case vanished
}

extension LazyPages {
    /// Pages came from the source.
    ///
    /// Then ask ``nextInstall(of:limit:)`` until it has no more; the bytes must stay in their buffer till then.
    ///
    /// - Returns: Which of them came for the first time and so go into the digest.
    /// - Throws: ``LazyPagesError`` when they contradict what is known.
    public mutating func pagesArrived(_ arrival: Arrival) throws(LazyPagesError) -> FirstArrivals {
        let pages = arrival.pages
        guard isLazy(pages) else {
            throw LazyPagesError(.outsideOfLazyMemory, "\(arrival.count) at \(arrival.address) are in no lazy mapping")
        }
        if isMapComplete {
            let mapped = map.count(in: pages)
            guard arrival.content == .absent ? mapped == 0 : mapped == UInt64(pages.count) else {
                throw LazyPagesError(
                    .contradiction,
                    "\(arrival.count) at \(arrival.address) came as \(arrival.content), \(mapped) are in the page map"
                )
            }
        }
        guard arrival.content != .absent else {
            if !isMapComplete { absent.insert(pages) }
            return FirstArrivals(bits: 0)
        }
        var bits: UInt64 = 0
        for (index, page) in pages.enumerated()
        where isMapComplete ? outstanding.remove(page) : early.insert(page) {
            bits |= 1 << UInt64(index)
        }
        if !local.isEmpty { local.remove(pages) }
        if !promised.isEmpty { promised.remove(pages) }
        return FirstArrivals(bits: bits)
    }

    /// The next pages of an arrival that an address space owes its threads.
    ///
    /// Do the install and report ``installed(_:_:)`` under the same hold of the lock, then ask again. What is answered
    /// follows the books of this moment: a removal that has been entered since is honoured, a space that has been
    /// forked since gets its pages. Allocates nothing.
    ///
    /// - Parameters:
    ///   - arrival: One that ``pagesArrived(_:)`` accepted.
    ///   - limit: Most pages, 1 after ``InstallOutcome/vanished``.
    /// - Returns: What to install, or nil when no more is owed; requests for these pages then count as answered.
    public mutating func nextInstall(of arrival: Arrival, limit: Int = 64) -> Install? {
        let pages = arrival.pages
        for index in spaces.indices {
            var rest = pages
            while let piece = spaces[index].segments.firstPiece(fromSource: rest) {
                let owed =
                    piece.isDropped
                    ? nil : spaces[index].firstOwedRun(in: piece.sourcePages, isMapComplete: isMapComplete)
                if let run = owed ?? spaces[index].doubtful.nextRun(in: piece.sourcePages) {
                    return Install(
                        space: spaces[index].identifier,
                        address: VirtualAddress(pageNumber: piece.start + (run.lowerBound - piece.source)),
                        offset: Int(run.lowerBound - pages.lowerBound),
                        count: min(run.count, max(1, limit)),
                        isZeros: owed == nil || arrival.content != .data,
                        source: run.lowerBound
                    )
                }
                rest = piece.sourcePages.upperBound..<pages.upperBound
            }
        }
        requested.remove(pages)
        return nil
    }

    /// The kernel answered an install.
    ///
    /// - Returns: what the space needs nothing of any more, for ``BooksStep/settled(_:_:)``.
    @discardableResult
    public mutating func installed(_ install: Install, _ outcome: InstallOutcome) -> SettledPages? {
        guard index(of: install.space) != nil else { return nil }
        var settled = SettledPages(first: install.source, count: 1)
        switch outcome {
        case .installed(let count):
            settled.count = UInt64(min(max(0, count), install.count))
            counters.installed += settled.count
        case .alreadyPresent:
            counters.alreadyPresent += 1
        case .vanished:
            guard install.count == 1 else { return nil }
        }
        settle(settled, in: install.space)
        return settled
    }

    mutating func settle(_ settled: SettledPages, in space: SpaceIdentifier) {
        guard let index = index(of: space) else { return }
        spaces[index].settle(settled.pages, isMapComplete: isMapComplete)
        spaces[index].doubtful.remove(settled.pages)
    }
}
