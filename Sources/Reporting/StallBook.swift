// SPDX-License-Identifier: Apache-2.0

/// How long threads waited for pages: each wait, all of them together, and the time in which at least one thread waited.
///
/// Holds a bounded number of open waits, so the fault path does not allocate; a wait beyond that is counted when it ends with nothing.
public struct StallBook: Sendable {
    /// A thread that waits.
    private struct Wait {
        var space: UInt32
        var page: UInt64
        var thread: UInt32
        var since: UInt64
    }

    private var open: [Wait] = []
    private let capacity: Int
    private var unionSince: UInt64 = 0
    /// One entry for every wait that ended.
    public private(set) var latency = LatencyHistogram()
    /// Nanoseconds of all waits.
    public private(set) var total: UInt64 = 0
    /// Nanoseconds in which at least one thread waited.
    public private(set) var union: UInt64 = 0
    /// Waits that have not ended.
    public var openCount: Int { open.count }

    /// A book without waits that follows at most `capacity` at a time.
    public init(capacity: Int = 4096) {
        self.capacity = capacity
        open.reserveCapacity(capacity)
    }

    /// A thread touched a page that was not there.
    ///
    /// A second message about the same wait changes nothing.
    public mutating func began(space: UInt32, page: UInt64, thread: UInt32, now: UInt64) {
        for index in open.indices where open[index].thread == thread && open[index].space == space {
            if open[index].page == page { return }
            // The thread runs again, or it could not touch another page: the earlier wait has ended unseen.
            close(index, now: now)
            break
        }
        guard open.count < capacity else { return }
        if open.isEmpty { unionSince = now }
        open.append(Wait(space: space, page: page, thread: thread, since: now))
    }

    /// Pages are there and their waiters were woken.
    public mutating func ended(space: UInt32, pages: Range<UInt64>, now: UInt64) {
        var index = 0
        while index < open.count {
            if open[index].space == space && pages.contains(open[index].page) {
                close(index, now: now)
            } else {
                index += 1
            }
        }
    }

    /// Whether a wait that has not ended is for such a page of a space.
    public func isAnyoneWaiting(where matches: (_ space: UInt32, _ page: UInt64, _ thread: UInt32) -> Bool) -> Bool {
        open.contains { matches($0.space, $0.page, $0.thread) }
    }

    /// An address space is gone, and its threads with it.
    public mutating func spaceEnded(_ space: UInt32, now: UInt64) {
        ended(space: space, pages: 0..<UInt64.max, now: now)
    }

    private mutating func close(_ index: Int, now: UInt64) {
        let waited = now &- min(now, open[index].since)
        latency.record(nanoseconds: waited)
        total &+= waited
        open.swapAt(index, open.count - 1)
        open.removeLast()
        if open.isEmpty { union &+= now &- min(now, unionSince) }
    }
}
