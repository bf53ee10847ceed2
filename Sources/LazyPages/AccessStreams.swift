// SPDX-License-Identifier: Apache-2.0

/// Tells walks through memory from scattered touches, to choose how much is asked for at once.
///
/// A walk goes on in equal steps, forwards or backwards. A step to the next page is told by the second touch, a longer one by
/// the fourth, because in a small memory three scattered touches are equally far apart now and then; one of a length that a
/// walk has just had by the second (the next column of a table). Each time a walk goes on it asks for four times as much;
/// any other touch asks for its page alone, because a longer answer would only delay the next one.
///
/// Sixteen walks at a time are followed, whichever threads they are of; one that is quiet while 32 other pages are asked for
/// is forgotten, since scattered touches meet it by chance sooner or later.
struct AccessStreams: Sendable {
    /// What is worth asking for: `count` pages, each `step` behind the one before, from the one that was touched on.
    struct Advice: Hashable, Sendable {
        var step: Int64
        var count: UInt64
    }

    private struct Walk: Sendable {
        /// The page at which the walk goes on.
        var next: UInt64 = .max
        /// Pages from one touch to the next.
        var step: Int64 = 1
        /// Pages asked for last; 0 for no walk.
        var window: UInt64 = 0
        /// When it was seen last.
        var seen: UInt64 = 0

        /// Whether a touch of `page` continues it: the bulk stream may have brought some of the pages in between.
        func continues(at page: UInt64) -> Bool {
            let distance = Int64(bitPattern: page &- next)
            guard window > 0, distance == 0 || (distance < 0) == (step < 0) else { return false }
            return distance.magnitude <= window &* step.magnitude && distance.isMultiple(of: step)
        }
    }

    /// The longest step of a walk, 4 MiB.
    private static let longestStep: UInt64 = 1024
    /// Pages that are asked for when a walk has been told.
    private static let firstWindow: UInt64 = 4
    /// So many other touches may come between two of a walk that is not told yet.
    private static let interleaved = 16
    /// The same of a walk that is told by two touches, to the next page and by a step of late: few, since that is a weak sign.
    private static let interleavedNext = 8
    private static let interleavedLate = 2
    /// For how many touches of missing pages a quiet walk is remembered.
    private static let memory: UInt64 = 32
    /// Pages that a walk has to have asked for at a time, for the length of its step to be a sign.
    private static let certainWindow: UInt64 = 16

    private var walks = InlineArray<16, Walk>(repeating: Walk())
    /// The last touches that belong to no walk, in a ring.
    private var lone = InlineArray<64, UInt64>(repeating: .max)
    private var loneCount = 0
    private var time: UInt64 = 0

    /// What to ask for when `page` was touched and is missing, at most `limit` pages.
    mutating func advice(at page: UInt64, limit: UInt64) -> Advice {
        time &+= 1
        var quietest = 0
        for index in walks.indices {
            let walk = walks[index]
            if isRemembered(walk), walk.continues(at: page) {
                return follow(index, at: page, Advice(step: walk.step, count: min(limit, walk.window * 4)))
            }
            if walk.seen < walks[quietest].seen { quietest = index }
        }
        if let advice = beginning(at: page, limit: limit) { return follow(quietest, at: page, advice) }
        lone[loneCount & (lone.count - 1)] = page
        loneCount &+= 1
        return Advice(step: 1, count: 1)
    }

    private mutating func follow(_ index: Int, at page: UInt64, _ advice: Advice) -> Advice {
        let next = page &+ UInt64(bitPattern: advice.step) &* advice.count
        walks[index] = Walk(next: next, step: advice.step, window: advice.count, seen: time)
        return advice
    }

    private func isRemembered(_ walk: Walk) -> Bool {
        time &- walk.seen <= Self.memory
    }

    /// What a walk is worth that begins with touches of late and goes on at `page`.
    private func beginning(at page: UInt64, limit: UInt64) -> Advice? {
        let first = min(limit, Self.firstWindow)
        for age in 0..<Self.interleaved {
            let earlier = lone[(loneCount &- 1 &- age) & (lone.count - 1)]
            let step = page &- earlier
            if step == 1, age < Self.interleavedNext { return Advice(step: 1, count: first) }
            let distance = Int64(bitPattern: step)
            guard distance != 0, distance.magnitude <= Self.longestStep else { continue }
            if wasTouched(earlier &- step), wasTouched(earlier &- 2 &* step) {
                return Advice(step: distance, count: first)
            }
            if age < Self.interleavedLate, let window = windowOfLate(with: distance) {
                return Advice(step: distance, count: min(limit, window))
            }
        }
        return nil
    }

    /// What a walk with such a step has asked for at a time, if there is one.
    private func windowOfLate(with step: Int64) -> UInt64? {
        for index in walks.indices where walks[index].step == step && walks[index].window >= Self.certainWindow {
            if isRemembered(walks[index]) { return walks[index].window }
        }
        return nil
    }

    private func wasTouched(_ page: UInt64) -> Bool {
        for index in lone.indices where lone[index] == page { return true }
        return false
    }
}
