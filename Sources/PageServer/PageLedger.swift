// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import PageWire
internal import Paging

/// Which pages exist, which have been sent, and the digest over those: what a COMPLETE is compared with.
///
/// Every existing page is claimed once, by whichever thread sends it first, and counted then. A page may go out twice when a fault
/// and the stream meet; the destination drops the second one. All threads of a session use one ledger.
final class PageLedger: Sendable {
    /// The most pages that are remembered as sent before it is known which exist.
    static let maximumEarly = 4096

    private struct State {
        var existing: PageSet?
        var unsent = PageSet()
        /// Pages sent before the map was there, with their digest.
        var early: [(page: UInt64, digest: PageDigest)] = []
        var digest = PageDigest()
        /// Answers that are on their way and not counted yet.
        var openAnswers = 0
        var cursor: UInt64 = 0
        var demanded: UInt64 = 0
        var zero: UInt64 = 0
        var failed = false
    }

    private let state = Lock(State())
    private let mapReady: EventDescriptor

    init() throws(SystemCallError) {
        mapReady = try EventDescriptor()
    }

    /// Readable when ``exists(_:)`` can be asked.
    var readyDescriptor: Int32 { mapReady.descriptor }

    /// All existing pages are known.
    func mapScanned(_ pages: PageSet) {
        state.withLock { state in
            state.existing = pages
            state.unsent = pages
            for (page, digest) in state.early where state.unsent.remove(page) { state.digest.add(digest) }
            state.early = []
        }
        mapReady.signal()
    }

    /// The map will not come: the process is gone.
    func mapFailed() {
        state.withLock { $0.failed = true }
        mapReady.signal()
    }

    /// Whether the page exists; nil before the map is there (then wait for ``readyDescriptor``), or when it never comes.
    func exists(_ page: UInt64) -> Bool? {
        state.withLock { $0.existing?.contains(page) }
    }

    /// How many pages exist; nil before the map is there.
    var existingCount: UInt64? {
        state.withLock { $0.existing?.count }
    }

    /// A copy of the map, empty before it is there.
    var map: PageSet {
        state.withLock { $0.existing ?? PageSet() }
    }

    /// Bytes of pages are about to be sent that will be counted afterwards.
    func answerBegan() {
        state.withLock { $0.openAnswers += 1 }
    }

    /// They have been sent, or have failed, and are counted.
    func answerEnded() {
        state.withLock { $0.openAnswers -= 1 }
    }

    /// Whether no thread is between sending pages and counting them.
    var isSettled: Bool {
        state.withLock { $0.openAnswers == 0 }
    }

    /// A page was sent because a thread waits for it (or is likely to come for it).
    ///
    /// - Parameter digest: computes the digest of this one page; asked only when the page counts.
    func sentOnDemand(_ page: UInt64, isZero: Bool, digest: () -> PageDigest) {
        let claim: Claim = state.withLock { state in
            state.cursor = page + 1
            guard state.existing != nil else { return state.early.count < Self.maximumEarly ? .early : .none }
            guard state.unsent.remove(page) else { return .none }
            state.demanded += 1
            if isZero { state.zero += 1 }
            return .first
        }
        guard claim != .none else { return }
        let digest = digest()
        state.withLock { state in
            switch (claim, state.existing) {
            case (.first, _): state.digest.add(digest)
            case (_, nil): if !state.early.contains(where: { $0.page == page }) { state.early.append((page, digest)) }
            case (_, _?): if state.unsent.remove(page) { state.digest.add(digest) }
            }
        }
    }

    private enum Claim {
        /// The page counts: nobody has sent it before.
        case first
        /// It is not known yet whether the page exists.
        case early
        /// The page does not count, or not again.
        case none
    }

    /// The next run of at most `limit` pages that nobody has sent, which the caller sends now; nil when there is none left.
    ///
    /// Goes on behind the page that was demanded last, since what lies there is likely to be touched next.
    func claimRun(limit: UInt64) -> Range<UInt64>? {
        state.withLock { state in
            guard let run = state.unsent.nextRun(from: state.cursor) ?? state.unsent.nextRun(from: 0) else {
                return nil
            }
            let claimed = run.lowerBound..<min(run.upperBound, run.lowerBound + limit)
            state.unsent.remove(claimed)
            state.cursor = claimed.upperBound
            return claimed
        }
    }

    /// Counts pages of a claimed run; before they are sent, so that no COMPLETE can overtake it.
    func streamed(_ digest: PageDigest, zero: UInt64) {
        state.withLock { state in
            state.digest.add(digest)
            state.zero += zero
        }
    }

    /// All pages that were sent.
    var tally: PageTally {
        state.withLock { PageTally($0.digest) }
    }

    /// Pages that were demanded first, and pages that were zeros.
    var counts: (demanded: UInt64, zero: UInt64) {
        state.withLock { ($0.demanded, $0.zero) }
    }
}
