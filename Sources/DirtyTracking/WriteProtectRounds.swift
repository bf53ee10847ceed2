// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import Userfaultfd

/// How pages are armed.
enum Arming: Sendable {
    /// By PAGEMAP_SCAN, in the step that reports them (asynchronous write protection only).
    case scan
    /// By UFFDIO_WRITEPROTECT.
    case ioctl
}

/// The rounds of a process whose mappings are registered for write protection.
///
/// What is told of a page rests on two things that the kernel keeps in one place each: whether the mapping is registered, and whether
/// the page is armed. A mapping that is replaced, moved or made anew has neither, so its pages show as written. Only where faults are
/// delivered do moved pages keep both, and then the move is delivered as well.
struct WriteProtectRounds: ~Copyable {
    let pid: Int32
    let scope: TrackingScope
    let uffd: Userfaultfd
    let arming: Arming
    let queries: PageQueries
    /// Whether all holes of registered mappings show under ``PageQueries/writtenOrGone``; else every page with data is looked at.
    let seesHoles: Bool
    /// Answers the writes, where the kernel does not.
    let resolver: FaultResolver?
    let process: ProcessDescriptor
    let view: PageView

    private var books = TrackerBooks()
    /// What has moved since the last round, where moved pages keep their marks.
    private(set) var moved = MovedRanges()

    init(
        pid: Int32,
        process: ProcessDescriptor,
        scope: TrackingScope,
        uffd: consuming Userfaultfd,
        arming: Arming,
        queries: PageQueries,
        seesHoles: Bool,
        resolver: FaultResolver?,
        view: PageView
    ) {
        self.pid = pid
        self.process = process
        self.scope = scope
        self.uffd = uffd
        self.arming = arming
        self.queries = queries
        self.seesHoles = seesHoles
        self.resolver = resolver
        self.view = view
    }

    /// Registers all mappings that are there, so that somebody else's registration is met before anything else happens.
    func registerAll() throws(TrackingError) {
        let current = try readMappings()
        for span in current.spans { _ = try register(span, of: current) }
        try checkAlive()
    }

    /// Looks at the running process and arms what it reports.
    mutating func round() throws(TrackingError) -> TrackerRound {
        let began = MonotonicTime.now
        if let resolver { moved.formUnion(resolver.takeMoved()) }
        let current = try readMappings()
        var round = TrackerRound()
        round.dropped = books.replaced(in: current)
        for span in current.spans {
            // Before they are registered, or they could not be told from those that were.
            let fresh = books.areNew ? Set(span.members) : try newMembers(of: span, in: current)
            let others = try register(span, of: current)
            for piece in pieces(of: span, in: current, fresh: fresh, without: others) {
                try arm(piece, span.content, in: current, &round)
            }
            for index in others { round.dropped.formUnion(reported, in: current.list[index].range.pageNumbers) }
            try findLost(in: span, &round)
        }
        try checkAlive()
        books.enter(&round, current)
        moved = MovedRanges()
        round.scanTime = began.elapsed
        return round
    }

    /// Looks at the stopped process and arms nothing.
    mutating func finalRound(_ entries: [MapEntry]?) throws(TrackingError) -> TrackerRound {
        let began = MonotonicTime.now
        // Kept, should the process run on and another round come.
        if let resolver { moved.formUnion(resolver.takeMoved()) }
        let current =
            if let entries {
                TrackedMappings(entries, scope: scope, joinsGaps: view.skipsGaps)
            } else {
                try readMappings()
            }
        var round = TrackerRound()
        round.dropped = books.replaced(in: current)
        for span in current.spans {
            try collectNew(span, in: current, &round)
            if seesHoles { try lookAtSuspects(span, &round) } else { try lookAtAll(span, &round) }
        }
        try checkAlive()
        books.complete(&round)
        round.scanTime = began.elapsed
        return round
    }

    /// Pages whose earlier copies stand.
    var reported: PageSet { books.reported }

    // MARK: Asking

    func readMappings() throws(TrackingError) -> TrackedMappings {
        try TrackedMappings.read(pid, scope, view, process)
    }

    /// The words for an error of a look.
    func failure(_ error: TraceError, _ action: String) -> TrackingError {
        TrackingError.of(error, pid: pid, process: process, doing: action)
    }

    /// An address space that is gone shows no page at all, so every look at it ends with this question.
    func checkAlive() throws(TrackingError) {
        let nowhere = AddressRange(VirtualAddress(PageSize.base), VirtualAddress(2 * PageSize.base))
        let outcome = try TrackingError.translatingCall(pid, "track the writes of") { () throws(SystemCallError) in
            try uffd.writeProtect(nowhere, armed: false)
        }
        if outcome == .targetGone { throw TrackingError.gone(pid, process) }
    }

    func scan(
        _ pages: Range<UInt64>,
        _ query: PageQuery,
        _ body: (Range<UInt64>, PageCategories) -> Void
    ) throws(TrackingError) {
        do { try view.scan(pages, query, body) } catch { throw failure(error, "look at the pages of") }
    }
}
