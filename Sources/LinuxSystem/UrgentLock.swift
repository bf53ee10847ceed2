// SPDX-License-Identifier: Apache-2.0
internal import Synchronization

/// A value that one thread at a time can touch, urgent callers before those that work in the background.
///
/// Who is inside in the background runs as an urgent thread while an urgent one waits for it: on a machine whose CPUs are all busy it
/// might not run for seconds otherwise, and the urgent one with it. (The kernel lends turns with PTHREAD_PRIO_INHERIT to real-time
/// threads only.)
public final class UrgentLock<Value: ~Copyable>: Sendable {
    /// A thread that was made urgent, and what it was before.
    private struct Loan {
        var thread: Int32
        var attributes: SchedulingAttributes
    }

    private let value: Lock<Value>
    private let urgentCallers = Atomic<Int>(0)
    /// Held by the caller whose turn is next, when that is an urgent one.
    private let precedence = Lock(UInt8(0))
    /// The thread that is inside in the background; 0 for none.
    private let inside = Atomic<Int32>(0)
    private let loans = Lock<[Loan]>([])
    private let areLoans = Atomic<Bool>(false)
    private let courtesy = Courtesy()

    /// Guards `value`, which nobody else may keep a reference to.
    public init(_ value: consuming sending Value) {
        self.value = Lock(value)
        // Lending is on the way of a fault, which allocates nothing.
        loans.withLock { $0.reserveCapacity(16) }
    }

    /// Runs `body` while no other thread is inside; somebody waits for it.
    ///
    /// Must not be called from within.
    public func withUrgentLock<Result, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        courtesy.faulted(at: MonotonicTime.now.nanoseconds)
        urgentCallers.add(1, ordering: .relaxed)
        defer { urgentCallers.subtract(1, ordering: .relaxed) }
        return try precedence.withLock { _ throws(Failure) in
            // A hint: a thread that comes out just now gives the turn back when it comes out the next time.
            if inside.load(ordering: .relaxed) != 0 { lendTurn() }
            return try value.withLock(body)
        }
    }

    /// Runs `body` while no other thread is inside; nobody waits for it.
    ///
    /// Must not be called from within.
    public func withBackgroundLock<Result, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        // A mutex lets whoever runs have it again. The count is a hint: that it may be stale costs time only.
        if urgentCallers.load(ordering: .relaxed) > 0 { precedence.withLock { _ in } }
        defer { if areLoans.load(ordering: .relaxed) { giveBackTurn() } }
        return try value.withLock { value throws(Failure) in
            inside.store(NamedThread.currentID, ordering: .relaxed)
            defer { inside.store(0, ordering: .relaxed) }
            return try body(&value)
        }
    }

    /// Lets another thread run, if urgent callers have come lately; for who works in the background, between two pieces of work.
    public func makeWay() {
        let now = MonotonicTime.now.nanoseconds
        guard courtesy.isDue(at: now) else { return }
        Processor.yield()
        courtesy.wasAway(from: now, to: MonotonicTime.now.nanoseconds)
    }

    private func lendTurn() {
        loans.withLock { loans in
            let thread = inside.load(ordering: .relaxed)
            guard thread != 0, !loans.contains(where: { $0.thread == thread }),
                let attributes = try? SchedulingAttributes(thread: thread),
                // One that somebody has given another policy keeps it.
                attributes.policy == .batch
            else { return }
            // Before, so that a thread that runs urgently finds that it has something to give back.
            loans.append(Loan(thread: thread, attributes: attributes))
            areLoans.store(true, ordering: .sequentiallyConsistent)
            ThreadUrgency.urgent.apply(to: thread, insteadOf: attributes)
        }
    }

    private func giveBackTurn() {
        let own = NamedThread.currentID
        loans.withLock { loans in
            guard let index = loans.firstIndex(where: { $0.thread == own }) else { return }
            // It may keep the turn of an urgent one if the kernel will not have it otherwise: it is faster then, no more.
            try? loans.remove(at: index).attributes.apply()
            areLoans.store(!loans.isEmpty, ordering: .relaxed)
        }
    }
}
