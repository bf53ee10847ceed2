// SPDX-License-Identifier: Apache-2.0

/// SplitMix64: the same seed gives the same run.
public struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    /// A generator at the start of the run of `seed`.
    public init(seed: UInt64) {
        state = seed
    }

    /// The next 64 bits.
    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var result = state
        result = (result ^ (result >> 30)) &* 0xbf58_476d_1ce4_e5b9
        result = (result ^ (result >> 27)) &* 0x94d0_49bb_1331_11eb
        return result ^ (result >> 31)
    }

    /// True once in `n` calls on average.
    public mutating func one(in n: Int) -> Bool {
        Int.random(in: 0..<n, using: &self) == 0
    }
}
