// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import PageWire
internal import Paging
internal import Reporting

/// Which pages exist, which have been sent, and the digest over those: what a COMPLETE is compared with.
///
/// Every existing page is claimed once, by whichever thread sends it first, and counted then. A page may go out twice when a fault
/// and the stream meet, or when connections break; the destination drops the second one, and it is not counted again. All threads of
/// a session use one ledger.
final class PageLedger: Sendable {
    /// The most pages that are remembered as sent before it is known which exist.
    static let maximumEarly = 4096

    private struct State {
        var existing: PageSet?
        /// Guard pages that are known.
        var guards = PageSet()
        /// Those of them that the destination has before its process runs.
        var granted = PageSet()
        var unsent = PageSet()
        /// Existing pages that the destination has, by pre-copy or from a connection that broke, and that have not been counted.
        var uncounted = PageSet()
        /// Pages that are in the digest.
        var counted = PageSet()
        /// Existing pages that the destination has from pre-copy.
        var preCopiedPages = PageSet()
        /// What the destination does not know yet.
        var owesMap = true
        var owesPreCopyMap = true
        /// Pages sent with the description.
        var ahead = PageSet()
        /// Pages sent before the map was there, with their digest.
        var early: [(page: UInt64, digest: PageDigest)] = []
        var digest = PageDigest()
        /// Answers that are on their way and not counted yet.
        var openAnswers = 0
        /// Pages that the stream has taken since the destination last said what it misses: they are on their way.
        var streamed = PageSet()
        var cursor: UInt64 = 0
        var order = StreamOrder()
        var demanded: UInt64 = 0
        var zero: UInt64 = 0
        var preCopied: UInt64 = 0
        var failure: SessionFailure?

        /// Enters that a page is counted by whoever sends it; false when it has been or does not exist.
        mutating func take(_ page: UInt64) -> Bool {
            let isOpen = unsent.remove(page) || uncounted.remove(page)
            return isOpen && !counted.contains(page)
        }

        /// Around these are stacks, and what each thread has used last.
        mutating func beginWithWhatWentAhead() {
            var position: UInt64 = 0
            while let run = ahead.nextRun(from: position) {
                position = run.upperBound
                order.needed(run.lowerBound)
            }
        }

        /// Remembers a page until it is known whether it exists; one that is not remembered is sent and counted by the stream.
        mutating func sentEarly(_ page: UInt64, _ digest: PageDigest, limit: Int) {
            guard early.count < limit, !early.contains(where: { $0.page == page }) else { return }
            early.append((page, digest))
        }
    }

    private let state = UrgentLock(State())
    private let mapReady: EventDescriptor

    init() throws(SystemCallError) {
        mapReady = try EventDescriptor()
    }

    /// Lets an answer go first that waits for a CPU; for who streams, between two pieces of work.
    func makeWay() {
        state.makeWay()
    }

    /// Readable when ``exists(_:)`` can be asked.
    var readyDescriptor: Int32 { mapReady.descriptor }

    /// Guard pages that are known under the freeze: the destination gets them with the grant, whatever is found besides.
    func knows(guards: [PageRun]) {
        state.withBackgroundLock { state in
            for run in guards {
                state.guards.insert(run.pageNumbers)
                state.granted.insert(run.pageNumbers)
            }
        }
    }

    /// The walk through memory has met guard pages.
    func found(guards pages: Range<UInt64>) {
        state.withBackgroundLock { _ = $0.guards.insert(pages) }
    }

    /// The guard pages for the grant: all that are known by now, if they are no more than `limit` runs.
    ///
    /// - Throws: what has ended the walk through memory.
    func guardsToGrant(limit: Int) throws(SessionFailure) -> [PageRun] {
        try state.withBackgroundLock { state throws(SessionFailure) in
            if let failure = state.failure { throw failure }
            let known = state.guards.runs
            guard known.count <= limit else { return state.granted.runs }
            state.granted = state.guards
            return known
        }
    }

    /// Guard pages that the grant does not name; all of them once the map is there.
    var lateGuards: [PageRun] {
        state.withBackgroundLock { state in
            var late = state.guards
            late.subtract(state.granted)
            return late.runs
        }
    }

    /// Whether the destination is to be told that a page it asks for is a guard page, which it is here.
    ///
    /// A guard of the grant is there from the first instruction on: the process has taken it off, or it would not be asked for.
    func isLate(guard page: UInt64) -> Bool {
        state.withUrgentLock { !$0.granted.contains(page) }
    }

    /// All existing pages are known.
    ///
    /// - Parameters:
    ///   - pages: exist.
    ///   - preCopied: those of them whose bytes the destination has already.
    func mapScanned(_ pages: PageSet, preCopied: PageSet = PageSet()) {
        state.withBackgroundLock { state in
            state.existing = pages
            state.unsent = pages
            state.unsent.subtract(preCopied)
            state.uncounted = preCopied
            state.preCopiedPages = preCopied
            state.beginWithWhatWentAhead()
            for (page, digest) in state.early where state.take(page) {
                state.digest.add(digest)
                state.counted.insert(page)
                state.demanded += 1
            }
            state.early = []
        }
        mapReady.signal()
    }

    /// The map will not come: the process is gone.
    func mapFailed(_ failure: SessionFailure) {
        state.withBackgroundLock { $0.failure = failure }
        mapReady.signal()
    }

    /// Pages of the process are sent with the description.
    func willGoAhead(_ pages: Range<UInt64>) {
        state.withBackgroundLock { _ = $0.ahead.insert(pages) }
    }

    /// Whether a page was sent with the description.
    func wentAhead(_ page: UInt64) -> Bool {
        state.withUrgentLock { $0.ahead.contains(page) }
    }

    /// Whether the page exists; nil before the map is there (then wait for ``readyDescriptor``), or when it never comes.
    func exists(_ page: UInt64) -> Bool? {
        state.withUrgentLock { $0.existing?.contains(page) }
    }

    /// How many pages exist; nil before the map is there.
    var existingCount: UInt64? {
        state.withBackgroundLock { $0.existing?.count }
    }

    /// The map of pre-copied pages as far as the destination needs it: the pages that it has before they are sent.
    var preCopyMapToSend: PageSet {
        state.withBackgroundLock { $0.owesPreCopyMap ? $0.preCopiedPages : PageSet() }
    }

    /// A copy of the map, empty before it is there.
    var map: PageSet {
        state.withBackgroundLock { $0.existing ?? PageSet() }
    }

    /// Whether the destination still needs the map.
    var owesMap: Bool {
        state.withBackgroundLock { $0.owesMap }
    }

    /// Whether no thread is between sending pages and counting them.
    var isSettled: Bool {
        state.withBackgroundLock { $0.openAnswers == 0 && $0.uncounted.isEmpty }
    }

    /// Pages that are about to be sent on demand.
    struct Claim {
        /// One bit a page, bit 0 the first: set when the page has to be counted once it is sent.
        var bits: UInt64
        /// Whether it is not known yet which pages exist: then counting sorts out which of them do.
        var isEarly: Bool
    }

    /// Which of at most 64 pages are on their way by the stream: one bit a page, bit 0 the first.
    func onTheirWay(_ pages: Range<UInt64>) -> UInt64 {
        state.withUrgentLock { state in
            var bits: UInt64 = 0
            for (index, page) in pages.enumerated() where state.streamed.contains(page) { bits |= 1 << UInt64(index) }
            return bits
        }
    }

    /// Pages are about to be sent because they were asked for: the stream leaves out those that count here.
    ///
    /// - Parameter isAwaited: a thread waits for the first of them.
    func claimOnDemand(_ pages: Range<UInt64>, isAwaited: Bool = true) -> Claim {
        state.withUrgentLock { state in
            state.openAnswers += 1
            // A walk asks for several pages, and for what is next itself.
            if isAwaited && pages.count == 1 { state.order.needed(pages.lowerBound) }
            var claim = Claim(bits: 0, isEarly: state.existing == nil)
            for (index, page) in pages.enumerated() where claim.isEarly || state.take(page) {
                claim.bits |= 1 << UInt64(index)
            }
            return claim
        }
    }

    /// A page that was claimed has been sent; behind the sending, since a thread runs by now.
    func counted(_ page: UInt64, of claim: Claim, isZero: Bool, digest: PageDigest) {
        state.withUrgentLock { state in
            if claim.isEarly {
                guard state.existing != nil else { return state.sentEarly(page, digest, limit: Self.maximumEarly) }
                guard state.take(page) else { return }
            }
            state.demanded += 1
            if isZero { state.zero += 1 }
            state.digest.add(digest)
            state.counted.insert(page)
        }
    }

    /// The answer that ``claimOnDemand(_:)`` began has been sent, or has failed, and is counted.
    func answerEnded() {
        state.withUrgentLock { $0.openAnswers -= 1 }
    }

    /// The next run of at most `limit` pages that nobody has sent, which the caller sends now; nil when there is none left.
    ///
    /// First those around what threads have needed (``StreamOrder``), then ascending. It does not follow a walk through memory: that asks
    /// for its own next pages, and a stream that ran ahead of it would only send the same ones.
    ///
    /// - Returns: pages that are all to be counted, or have all been counted when they were sent over a connection that broke.
    func claimRun(limit: UInt64) -> (pages: Range<UInt64>, isCounted: Bool)? {
        state.withBackgroundLock { state in
            let near = state.order.next(of: state.unsent)
            guard
                var claimed = near ?? state.unsent.nextRun(from: state.cursor, limit: limit)
                    ?? state.unsent.nextRun(from: 0, limit: limit)
            else { return nil }
            var isCounted = false
            if let counted = state.counted.nextRun(in: claimed) {
                isCounted = counted.lowerBound == claimed.lowerBound
                claimed = isCounted ? counted : claimed.lowerBound..<counted.lowerBound
            }
            state.unsent.remove(claimed)
            state.streamed.insert(claimed)
            if near == nil { state.cursor = claimed.upperBound }
            // The destination may have demanded the same pages just before and be complete without waiting for these.
            state.openAnswers += 1
            return (claimed, isCounted)
        }
    }

    /// The next run of at most `limit` pages that the destination has and that have not been counted, which the caller reads and
    /// counts now by ``wasThere(_:_:)``; nil when there is none left.
    func claimUncounted(limit: UInt64) -> Range<UInt64>? {
        state.withBackgroundLock { state in
            guard let claimed = state.uncounted.nextRun(from: 0, limit: limit) else { return nil }
            state.uncounted.remove(claimed)
            state.openAnswers += 1
            return claimed
        }
    }

    /// Counts a claimed run of pages that the destination has.
    func wasThere(_ pages: Range<UInt64>, _ digest: PageDigest) {
        state.withBackgroundLock { state in
            state.openAnswers -= 1
            state.digest.add(digest)
            state.counted.insert(pages)
            state.preCopied += state.preCopiedPages.count(in: pages)
        }
    }

    /// Counts a claimed run of pages; before they are sent, so that no COMPLETE can overtake it.
    func streamed(_ pages: Range<UInt64>, _ digest: PageDigest, zero: UInt64) {
        state.withBackgroundLock { state in
            state.openAnswers -= 1
            state.digest.add(digest)
            state.counted.insert(pages)
            state.zero += zero
        }
    }

    /// A claimed run had been counted before.
    func streamedAgain() {
        state.withBackgroundLock { $0.openAnswers -= 1 }
    }

    /// The destination is back and has said what it lacks; nobody serves pages now.
    ///
    /// What has been counted stays counted; what it lacks is sent, counted or not.
    ///
    /// - Parameters:
    ///   - missing: existing pages.
    ///   - hasMap: the page map need not be sent again.
    ///   - hasPreCopyMap: the map of pre-copied pages need not be sent again, and `missing` has regarded it.
    func resumed(missing: PageSet, hasMap: Bool, hasPreCopyMap: Bool) {
        state.withBackgroundLock { state in
            guard let existing = state.existing else { preconditionFailure("PageLedger: resumed before the map") }
            state.unsent = missing
            if !hasPreCopyMap { state.unsent.subtract(state.preCopiedPages) }
            state.uncounted = existing
            state.uncounted.subtract(state.counted)
            state.uncounted.subtract(state.unsent)
            // Of answers that were cut off.
            state.openAnswers = 0
            state.streamed = PageSet()
            state.cursor = 0
            state.owesMap = !hasMap
            state.owesPreCopyMap = !hasPreCopyMap
        }
    }

    /// All pages that were sent.
    var tally: PageTally {
        state.withBackgroundLock { PageTally($0.digest) }
    }

    /// Pages that were demanded first, pages that were zeros, and pages that were pre-copied.
    var counts: (demanded: UInt64, zero: UInt64, preCopied: UInt64) {
        state.withBackgroundLock { ($0.demanded, $0.zero, $0.preCopied) }
    }
}

extension PageSet {
    /// The runs of the set, ascending.
    fileprivate var runs: [PageRun] {
        var runs: [PageRun] = []
        var position: UInt64 = 0
        while let run = nextRun(from: position) {
            position = run.upperBound
            runs.append(PageRun(pageNumbers: run))
        }
        return runs
    }
}
