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
    /// How long a stop may take.
    let timeout: Duration
    /// Whether writes past the page tables, and userfaultfds of the process, are looked for.
    private let mindsUnseenWrites: Bool

    private var books = TrackerBooks()
    /// Mappings that were registered, as they were then.
    private(set) var known = TrackedMappings()
    /// Ranges whose marks say nothing: what has moved since the last round, where moved pages keep them, and what could not be armed
    /// in the last round.
    private(set) var doubtful = MovedRanges()

    init(
        pid: Int32,
        process: ProcessDescriptor,
        scope: TrackingScope,
        uffd: consuming Userfaultfd,
        arming: Arming,
        queries: PageQueries,
        seesHoles: Bool,
        resolver: FaultResolver?,
        view: PageView,
        timeout: Duration,
        mindsUnseenWrites: Bool
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
        self.timeout = timeout
        self.mindsUnseenWrites = mindsUnseenWrites
    }

    /// Registers all mappings that are there, so that somebody else's registration is met before anything else happens.
    mutating func registerAll() throws(TrackingError) {
        let current = try readMappings()
        for span in current.spans { _ = try registerWhole(span, of: current) }
        known = current
        try checkAlive()
        _ = try mindsCalls()
    }

    /// Looks at the process and arms what it reports, while it runs where that is safe.
    mutating func round() throws(TrackingError) -> TrackerRound {
        let began = MonotonicTime.now
        var round: TrackerRound
        if try mindsCalls() {
            round = try stoppedRound()
        } else {
            round = try roundOnce()
            if try mindsCalls() {
                // It began in the middle: what is in memory may change without a mark, so nothing that was said stands.
                let dropped = round.dropped
                books.forget()
                round = try stoppedRound()
                round.dropped.formUnion(dropped)
            }
        }
        round.scanTime = began.elapsed
        return round
    }

    /// Whether a thread in a call may write past the page tables.
    private func mindsCalls() throws(TrackingError) -> Bool {
        guard mindsUnseenWrites else { return false }
        return try UnseenWrites.areInCalls(of: pid, process)
    }

    private mutating func stoppedRound() throws(TrackingError) -> TrackerRound {
        let stopped: StoppedProcess
        do { stopped = try StoppedProcess.stop(pid, timeout: timeout) } catch { throw failure(error, "stop") }
        // Should this throw, the stop is let go with its owner.
        let round = try roundOnce()
        do { try stopped.letGo() } catch { throw failure(error, "let go of") }
        return round
    }

    private mutating func roundOnce() throws(TrackingError) -> TrackerRound {
        if let resolver { doubtful.formUnion(resolver.takeMoved()) }
        let current = try readMappings()
        var round = TrackerRound()
        var failed = MovedRanges()
        round.dropped = books.replaced(in: current)
        for span in current.spans {
            let sorted = try register(span, of: current)
            for piece in pieces(of: span, in: current, sorted) {
                try arm(piece, span.content, in: current, &round, &failed)
            }
            for index in sorted.others { round.dropped.formUnion(reported, in: current.list[index].range.pageNumbers) }
            try findLost(in: span, &round)
        }
        try checkAlive()
        books.enter(&round, current)
        known = current
        doubtful = failed
        return round
    }

    /// Looks at the stopped process and arms nothing.
    mutating func finalRound(_ entries: [MapEntry]?) throws(TrackingError) -> TrackerRound {
        let began = MonotonicTime.now
        // Kept, should the process run on and another round come.
        if let resolver { doubtful.formUnion(resolver.takeMoved()) }
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

    /// Whether there was no round yet.
    var isNew: Bool { books.areNew }

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
