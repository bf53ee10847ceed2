// SPDX-License-Identifier: Apache-2.0
import LinuxSystem
import PageWire
import Paging
import Reporting

@testable import PageServer

/// A tracker whose every round the test has written down; the last round is the one under the freeze.
final class FakeTracker: SourceTracker, Sendable {
    private let rounds: Lock<[Result<SourceRound, SessionFailure>]>
    private let last: SourceRound
    private let whenEnded = Lock<(@Sendable () -> Void)?>(nil)
    let memory: any SourceMemory
    let kind = TrackerKind.writeProtectAsync

    init(_ rounds: [Result<SourceRound, SessionFailure>], last: SourceRound, memory: FakeMemory) {
        self.rounds = Lock(rounds)
        self.last = last
        self.memory = memory
    }

    func onEnd(_ body: @escaping @Sendable () -> Void) {
        whenEnded.withLock { $0 = body }
    }

    func round() throws(SessionFailure) -> SourceRound {
        let next = rounds.withLock { $0.isEmpty ? nil : $0.removeFirst() }
        guard let next else { return SourceRound(written: PageSet(), dropped: PageSet()) }
        return try next.get()
    }

    func finalRound() throws(SessionFailure) -> SourceRound { last }

    func end() {
        let body = whenEnded.withLock { taken in
            defer { taken = nil }
            return taken
        }
        body?()
    }
}

/// A set of the pages of ranges.
func pages(_ ranges: Range<UInt64>...) -> PageSet {
    var set = PageSet()
    for range in ranges { set.insert(range) }
    return set
}
