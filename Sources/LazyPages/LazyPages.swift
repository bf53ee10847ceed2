// SPDX-License-Identifier: Apache-2.0
public import Paging

/// The books of a lazy restore: which pages every address space still owes its threads, and what to do about it.
///
/// One machine serves one restored process and all children it forks while pages are owed. It does no I/O and knows no
/// time: the driver tells it about faults, events of the address space and pages that arrived, and does what it
/// answers.
///
/// ## A page of a lazy mapping, in one address space
///
/// | state | a fault is answered by | ends by |
/// |---|---|---|
/// | owed | a request to the source, waiting for one that is under way, or what was pre-copied | an install; dropped by removal |
/// | installed | asking again (a stale message does no harm: the copy says "already present") | dropped by removal |
/// | dropped (MADV_DONTNEED, MADV_FREE) | zeros, for ever: data of the source that comes later is never installed | |
/// | absent (not in the page map) | zeros | |
/// | outside of every lazy mapping (a stack that grew, a mapping that grew) | zeros | |
/// | of shared memory, see ``LazyPages/init(segments:objects:limits:)`` | as above, but: installed: only a wake; outside: nothing before all of it is there | |
/// | to become a guard page | nothing, until it is one | the installation of the guard; then it counts as dropped |
///
/// Until the page map is complete every page of a lazy mapping counts as owed.
///
/// ## Rules for the driver
///
/// 1. One lock around the machine. Under it: read **all** events of an address space before answering its faults or
///    installing into it, because the kernel hands out faults before the removals that came earlier. Reading from or
///    writing to the network needs no lock.
/// 2. Under the same hold of the lock ask ``nextInstall(of:limit:)``, do the install, report ``installed(_:_:)``.
/// 3. When the kernel says EAGAIN (an event is pending), read the events and ask again, also about the fault: never
///    repeat an old answer.
/// 4. After a removal, unmapping or move wake the whole range: threads that wait there fault again and get the new
///    answer.
/// 5. While ``nextPendingGuards(of:)`` names a range, stop the threads of the space, read its events, install guard
///    pages there, report ``guardsInstalled(_:_:)`` and wake the range.
public struct LazyPages: ~Copyable, Sendable {
    /// Bounds of what a machine does.
    public struct Limits: Hashable, Sendable {
        /// Most pages of the page map; the default is 1 TiB.
        ///
        /// Two bits a page are kept, and two more for each address space.
        public var mappedPages: UInt64 = 1 << 28
        /// Most pages in one request; at most 64.
        public var requestedPages: UInt64 = 32
        /// Most zero pages installed for one fault.
        public var zeroPages: UInt64 = 16
        /// Most pre-copied pages installed for one fault; at most 64.
        public var localPages: UInt64 = 16

        /// The usual bounds.
        public init() {}
    }

    /// What has been decided so far; pages unless said otherwise.
    public struct Counters: Hashable, Sendable {
        /// Faults, in messages.
        public var faults: UInt64 = 0
        /// Asked for because a thread waits.
        public var demanded: UInt64 = 0
        /// Asked for because they follow one that a thread waits for.
        public var prefetched: UInt64 = 0
        /// Faults that found their page already asked for.
        public var awaited: UInt64 = 0
        /// Faults answered with zeros at once.
        public var zeroFaults: UInt64 = 0
        /// Faults answered with pages that were pre-copied.
        public var localFaults: UInt64 = 0
        /// Installed from the source, in all address spaces.
        public var installed: UInt64 = 0
        /// Found to be present when they were to be installed.
        public var alreadyPresent: UInt64 = 0
    }

    let limits: Limits
    /// Source pages that can be lazy, ascending, joined where they touch.
    let extents: [Range<UInt64>]
    /// Living address spaces.
    var spaces: [AddressSpace]
    private var nextIdentifier: UInt32 = 1

    /// Source pages that exist; complete when ``isMapComplete``.
    var map = PageSet()
    /// Whether the last piece of the page map has come.
    public internal(set) var isMapComplete = false
    /// Source pages that arrived while the map was not complete.
    var early = PageSet()
    /// Source pages that the source called absent while the map was not complete.
    var absent = PageSet()
    /// Source pages of the map that have not arrived; valid when ``isMapComplete``.
    var outstanding = PageSet()
    /// Source pages asked for and not yet answered and installed.
    var requested = PageSet()
    /// Requested source pages that come by the stream, as the source says.
    var promised = PageSet()
    /// What the walk of the last fault is about to touch.
    var ahead = RequestsAhead()
    /// Outstanding source pages whose bytes were pre-copied and are right: they need not be asked for.
    var local = PageSet()
    /// Source pages that the source called guard pages.
    var guardPages = PageSet()

    /// What has been decided so far.
    public internal(set) var counters = Counters()

    /// The books of a process that has been built and not yet run.
    ///
    /// Shared memory is a space of its own, ``SpaceIdentifier/objects``, whose pages go into the objects, whoever maps them. No event is
    /// entered for it before it owes nothing (``owesNothing(_:)``), so its segments stay what they were, and a fork has no copy of it.
    ///
    /// - Parameters:
    ///   - segments: Every lazy mapping of private memory, registered with userfaultfd, without pages that were installed eagerly.
    ///     Disjoint.
    ///   - objects: Every lazy mapping of shared memory. Disjoint from the others.
    ///   - limits: Bounds.
    public init(segments: [Segment], objects: [Segment] = [], limits: Limits = Limits()) {
        precondition((1...64).contains(limits.requestedPages) && limits.zeroPages > 0, "LazyPages: limits")
        precondition((1...64).contains(limits.localPages), "LazyPages: limits")
        self.limits = limits
        let table = SegmentTable(segments)
        self.extents = Self.joined(SegmentTable(segments + objects).byDestination)
        self.spaces = [AddressSpace(identifier: .process, segments: table)]
        if !objects.isEmpty {
            self.spaces.append(AddressSpace(identifier: .objects, segments: SegmentTable(objects)))
        }
        // Room for a thousand scattered places, so that a fault allocates nothing, even before the page map has come.
        requested.reserveCapacity(blocks: 1024)
        early.reserveCapacity(blocks: 1024)
        spaces[0].settled.reserveCapacity(blocks: 1024)
    }

    private static func joined(_ segments: [Segment]) -> [Range<UInt64>] {
        var result: [Range<UInt64>] = []
        for segment in segments {
            if let last = result.last, last.upperBound >= segment.source {
                precondition(last.upperBound == segment.source, "LazyPages: segments overlap")
                result[result.count - 1] = last.lowerBound..<segment.source + segment.count
            } else {
                result.append(segment.sourcePages)
            }
        }
        return result
    }
}

// MARK: - Progress

extension LazyPages {
    /// Whether no address space owes a page to its threads: userfaultfd may be unregistered.
    public var isResident: Bool {
        isMapComplete && spaces.allSatisfy { $0.owed.isEmpty && $0.guards.isEmpty }
    }

    /// Whether everything that a space is owed is there.
    public func owesNothing(_ space: SpaceIdentifier) -> Bool {
        guard let index = index(of: space) else { return true }
        return isMapComplete && spaces[index].owed.isEmpty && spaces[index].guards.isEmpty
    }

    /// The first page that has been installed in a range, at the addresses that segments have had from the beginning; nil when none has.
    public func firstPresentPage(in range: AddressRange, of space: SpaceIdentifier) -> UInt64? {
        guard let index = index(of: space) else { return nil }
        var rest = range.pageNumbers
        while let piece = spaces[index].segments.firstPiece(in: rest) {
            var pages = piece.destinationPages
            while let run = (isMapComplete ? map : spaces[index].settled).nextRun(in: pages) {
                guard isMapComplete else { return run.lowerBound }
                let owed = spaces[index].owed.nextRun(in: run) ?? run.upperBound..<run.upperBound
                if owed.lowerBound > run.lowerBound { return run.lowerBound }
                pages = owed.upperBound..<pages.upperBound
            }
            rest = piece.destinationPages.upperBound..<rest.upperBound
        }
        return nil
    }

    /// Whether every page of the page map has arrived.
    public var hasAllPages: Bool {
        isMapComplete && outstanding.isEmpty
    }

    /// Pages of the page map, as far as it has come.
    public var mappedPages: UInt64 {
        map.count
    }

    /// Pages that have arrived, each counted once.
    public var arrivedPages: UInt64 {
        isMapComplete ? map.count - outstanding.count : early.count
    }

    /// Address spaces that are alive: the process and its children.
    public var livingSpaces: [SpaceIdentifier] {
        spaces.map(\.identifier)
    }
}

// MARK: - Address spaces

/// Which address space: the restored process, a child that it forked, or its shared memory.
public struct SpaceIdentifier: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The number; never used twice in one machine.
    public let number: UInt32

    /// The restored process.
    public static let process = SpaceIdentifier(number: 0)

    /// Its lazy shared memory, which children share as well.
    public static let objects = SpaceIdentifier(number: .max)

    /// One that a machine has used.
    public init(number: UInt32) {
        self.number = number
    }

    /// Orders by age.
    public static func < (left: Self, right: Self) -> Bool {
        left.number < right.number
    }

    /// As `space 0`.
    public var description: String {
        "space \(number)"
    }
}

/// The books of one address space; pages are numbers at the source unless said otherwise.
struct AddressSpace: Sendable {
    var identifier: SpaceIdentifier
    var segments: SegmentTable
    /// Pages that threads of this space still have to get; valid when the map is complete.
    var owed = PageSet()
    /// Pages that were installed before the map was complete.
    var settled = PageSet()
    /// Pages that the application gave back: zeros from then on.
    var dropped = PageSet()
    /// Pages of segments that have to become guard pages; until then nothing is installed there.
    var guards = PageSet()
    /// Dropped pages that threads wait for because they may be guard pages: zeros when the source says that they are none.
    var doubtful = PageSet()
    var streams = AccessStreams()

    init(identifier: SpaceIdentifier, segments: SegmentTable) {
        self.identifier = identifier
        self.segments = segments
    }

    /// Whether `page`, which is in a segment, still has to come from the source.
    func owes(_ page: UInt64, isMapComplete: Bool) -> Bool {
        isMapComplete
            ? owed.contains(page)
            : !settled.contains(page) && !dropped.contains(page) && !guards.contains(page)
    }

    /// The first run of pages in `pages`, all in one segment, that still have to come from the source.
    func firstOwedRun(in pages: Range<UInt64>, isMapComplete: Bool) -> Range<UInt64>? {
        if isMapComplete { return owed.nextRun(in: pages) }
        guard let first = pages.first(where: { owes($0, isMapComplete: false) }) else { return nil }
        let rest = first + 1..<pages.upperBound
        return first..<(rest.first { !owes($0, isMapComplete: false) } ?? pages.upperBound)
    }

    /// Enters that `pages` have been installed.
    mutating func settle(_ pages: Range<UInt64>, isMapComplete: Bool) {
        if isMapComplete { owed.remove(pages) } else { settled.insert(pages) }
    }
}

extension LazyPages {
    /// Where `space` is in ``spaces``.
    func index(of space: SpaceIdentifier) -> Int? {
        spaces.firstIndex { $0.identifier == space }
    }

    /// An identifier that no space had.
    mutating func makeIdentifier() -> SpaceIdentifier {
        defer { nextIdentifier += 1 }
        return SpaceIdentifier(number: nextIdentifier)
    }

    /// Whether all of `pages` can be lazy.
    func isLazy(_ pages: Range<UInt64>) -> Bool {
        var low = 0
        var high = extents.count
        while low < high {
            let middle = (low + high) >> 1
            if extents[middle].upperBound <= pages.lowerBound { low = middle + 1 } else { high = middle }
        }
        return low < extents.count && extents[low].lowerBound <= pages.lowerBound
            && pages.upperBound <= extents[low].upperBound
    }
}
