// SPDX-License-Identifier: Apache-2.0

/// Tells walks through memory from scattered touches, to choose how much is asked for at once.
///
/// A fault right behind an earlier one continues its walk and asks for four times as much; any other asks for its page
/// alone, because a longer answer would only delay the next one. Eight walks at a time are followed; the one that has
/// been quiet longest is forgotten.
struct AccessStreams: Sendable {
    private struct Walk: Sendable {
        /// The page at which the walk goes on.
        var next: UInt64 = .max
        /// Pages asked for last.
        var window: UInt64 = 0
        /// When it was seen last.
        var seen: UInt64 = 0
    }

    private var walks = InlineArray<8, Walk>(repeating: Walk())
    private var time: UInt64 = 0

    /// How many pages from `page` on are worth asking for, at most `limit`.
    mutating func window(at page: UInt64, limit: UInt64) -> UInt64 {
        time &+= 1
        var chosen = 0
        for index in walks.indices {
            let walk = walks[index]
            // The bulk stream may have brought some of the pages in between.
            if walk.window > 0, page >= walk.next, page - walk.next <= walk.window {
                chosen = index
                break
            }
            if walk.seen < walks[chosen].seen { chosen = index }
        }
        let walk = walks[chosen]
        let continues = walk.window > 0 && page >= walk.next && page - walk.next <= walk.window
        let window = continues ? min(limit, walk.window * 4) : 1
        walks[chosen] = Walk(next: page &+ window, window: window, seen: time)
        return window
    }
}
