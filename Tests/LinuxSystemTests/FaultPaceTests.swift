// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import LinuxSystem

@Suite("Whether faults come one by one", .timeLimit(.minutes(5)))
struct FaultPaceTests {
    private static let microsecond: UInt64 = 1000
    private static let start: UInt64 = 1_000_000_000
    private let pace = FaultPace()

    /// Returns the time behind them.
    @discardableResult
    private func note(
        _ count: Int,
        isAlone: Bool = true,
        from start: UInt64 = start,
        every step: UInt64 = 100
    ) -> UInt64 {
        for index in 0..<UInt64(count) {
            pace.noted(isAlone: isAlone, at: start + index * step * Self.microsecond)
        }
        return start + UInt64(count) * step * Self.microsecond
    }

    @Test func aFewSayNothing() {
        #expect(!pace.isOneByOne(at: Self.start))
        let end = note(FaultPace.enough - 1)
        #expect(!pace.isOneByOne(at: end))
        note(1, from: end)
        #expect(pace.isOneByOne(at: end))
    }

    @Test func itIsOverAWhileAfterTheLast() {
        let end = note(FaultPace.enough)
        #expect(pace.isOneByOne(at: end + FaultPace.memory - 200 * Self.microsecond))
        #expect(!pace.isOneByOne(at: end + FaultPace.memory))
        // One is not enough to begin again.
        note(1, from: end + FaultPace.memory)
        #expect(!pace.isOneByOne(at: end + FaultPace.memory))
    }

    @Test func oneNowAndThenIsNoPace() {
        let end = note(100, every: 6000)
        #expect(!pace.isOneByOne(at: end))
    }

    @Test func thoseThatOverlapEndIt() {
        var end = note(100)
        // Now and then two threads fault at a time.
        for _ in 0..<50 {
            end = note(1, isAlone: false, from: end)
            end = note(6, from: end)
            #expect(pace.isOneByOne(at: end))
        }
        end = note(10, isAlone: false, from: end)
        #expect(!pace.isOneByOne(at: end))
        // Half of them alone: as if none was.
        for _ in 0..<50 {
            end = note(1, isAlone: false, from: end)
            end = note(1, from: end)
            #expect(!pace.isOneByOne(at: end))
        }
    }
}
