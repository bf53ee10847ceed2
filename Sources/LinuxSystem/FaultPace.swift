// SPDX-License-Identifier: Apache-2.0
internal import Synchronization

/// Says whether faults come one by one: each when the one before it has been answered, and no long time after that.
///
/// Then all of the way is on somebody's mind, and only one thread on it has something to do at a time. Where several threads touch pages,
/// requests and answers overlap.
///
/// One thread notes faults, and tells the time, in nanoseconds; any thread may ask.
public final class FaultPace: Sendable {
    /// A fault that comes so long after another one is the first of its kind.
    static let pause: UInt64 = 5_000_000
    /// For how long after the last fault they still come one by one.
    static let memory: UInt64 = 20_000_000
    /// So many are enough to say so.
    static let enough = 16
    /// Below this it is over.
    static let tooFew = 8
    /// More than these make no difference.
    static let most = 32
    /// One that overlaps weighs as much as so many that do not.
    static let setback = 4

    private let score = Atomic<Int>(0)
    private let last = Atomic<UInt64>(0)
    private let areOneByOne = Atomic<Bool>(false)

    /// No fault yet.
    public init() {}

    /// A page is asked for.
    ///
    /// - Parameter isAlone: whether no other one is.
    public func noted(isAlone: Bool, at now: UInt64) {
        let before = last.exchange(now, ordering: .relaxed)
        let old = now > before + Self.pause ? 0 : score.load(ordering: .relaxed)
        let new = isAlone ? min(old + 1, Self.most) : max(old - Self.setback, 0)
        score.store(new, ordering: .relaxed)
        if new >= Self.enough { areOneByOne.store(true, ordering: .relaxed) }
        if new < Self.tooFew { areOneByOne.store(false, ordering: .relaxed) }
    }

    /// Whether they come one by one at present.
    public func isOneByOne(at now: UInt64) -> Bool {
        areOneByOne.load(ordering: .relaxed) && now < last.load(ordering: .relaxed) + Self.memory
    }
}
