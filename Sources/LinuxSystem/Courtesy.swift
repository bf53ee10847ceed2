// SPDX-License-Identifier: Apache-2.0
internal import Synchronization

/// Says when threads that stream ask the kernel whether somebody else should run.
///
/// The kernel decides that when a thread becomes runnable, and then not before the next tick of its clock (4 ms with CONFIG_HZ=250). A
/// thread on the way of a fault that has had its share for the moment waits for that tick, however short its slice is. So, while
/// faults come, threads that stream ask after each piece of their work, a record or some pages. When nobody else is ready
/// that costs well below a microsecond.
///
/// Somebody who computes for long is not on the way of a fault: then the stream goes on for as long without asking, so that it
/// keeps its share of the CPU.
///
/// It is told the time, in nanoseconds. All threads of one side share it; that a value may be stale costs time only.
public final class Courtesy: Sendable {
    /// For how long after a fault others are let go first.
    static let memory: UInt64 = 5_000_000
    /// A longer absence was not for a fault.
    static let othersTurn: UInt64 = 1_000_000
    /// The longest time in which the stream does not ask after such an absence.
    static let longestRest: UInt64 = 8_000_000

    private let lastFault = Atomic<UInt64>(0)
    private let restsUntil = Atomic<UInt64>(0)

    /// No fault yet.
    public init() {}

    /// Somebody waits for a page.
    public func faulted(at now: UInt64) {
        lastFault.store(now, ordering: .relaxed)
    }

    /// Whether to ask now.
    public func isDue(at now: UInt64) -> Bool {
        // A fault that came just now, on another CPU, may be later than `now`.
        let last = lastFault.load(ordering: .relaxed)
        return last > 0 && now < last + Self.memory && now >= restsUntil.load(ordering: .relaxed)
    }

    /// A thread has asked, and runs again.
    public func wasAway(from start: UInt64, to end: UInt64) {
        let absence = end - min(start, end)
        guard absence > Self.othersTurn else { return }
        restsUntil.store(end + min(absence, Self.longestRest), ordering: .relaxed)
    }
}
