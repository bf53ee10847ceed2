internal import Testing

// SPDX-License-Identifier: Apache-2.0
@testable internal import LinuxSystem

@Suite("How long a thread looks for work")
struct SpinTests {
    /// Looks once a microsecond until the spin says to sleep; the time that took, in microseconds.
    private func look(_ spin: inout Spin, from start: UInt64, patience: UInt64 = 1) -> UInt64 {
        var now = start * 1000
        spin.begin(at: MonotonicTime(nanoseconds: now), patience: patience)
        while spin.continues(at: MonotonicTime(nanoseconds: now)) { now += 1000 }
        return now / 1000 - start
    }

    /// Looks, and somebody else has the CPU for a while between two looks; whether it looks on.
    private func isDisturbed(_ spin: inout Spin, at start: UInt64, for time: UInt64) -> Bool {
        spin.begin(at: MonotonicTime(nanoseconds: start * 1000))
        guard spin.continues(at: MonotonicTime(nanoseconds: start * 1000)) else { return false }
        return !spin.continues(at: MonotonicTime(nanoseconds: (start + time) * 1000))
    }

    @Test func itLooksForAsLongAsItWasTold() {
        var spin = Spin(.microseconds(50))
        #expect(look(&spin, from: 1_000_000) == 50)
        #expect(look(&spin, from: 2_000_000) == 50)
        #expect(look(&spin, from: 3_000_000, patience: 4) == 200)
    }

    @Test func itIsOffWithoutACPUToDoSoOn() {
        #expect(Spin.time(asked: nil, cpus: 1) == .zero)
        #expect(Spin.time(asked: .microseconds(70), cpus: 1) == .zero)
        #expect(Spin.time(asked: nil, cpus: 2) == .zero)
        #expect(Spin.time(asked: .microseconds(70), cpus: 2) == .microseconds(70))
        #expect(Spin.time(asked: nil, cpus: 3) > .zero)
        #expect(Spin.time(asked: .zero, cpus: 3) == .zero)
    }

    @Test func withoutTimeItNeverLooks() {
        var spin = Spin(.zero)
        #expect(look(&spin, from: 1_000_000) == 0)
        #expect(look(&spin, from: 1_000_000, patience: 4) == 0)
    }

    @Test func whenOthersWantTheCPUItSleepsAtOnceForATime() {
        var spin = Spin(.microseconds(50))
        #expect(isDisturbed(&spin, at: 1_000_000, for: 40))
        #expect(look(&spin, from: 1_000_100) == 0)
        #expect(look(&spin, from: 1_009_000) == 0)
        #expect(look(&spin, from: 1_011_000) == 50)
    }

    @Test func whoIsDisturbedAgainAndAgainRestsLonger() {
        var spin = Spin(.microseconds(50))
        #expect(isDisturbed(&spin, at: 1_000_000, for: 40))
        #expect(isDisturbed(&spin, at: 1_011_000, for: 40))
        #expect(look(&spin, from: 1_030_000) == 0)
        #expect(isDisturbed(&spin, at: 1_032_000, for: 40))
        #expect(look(&spin, from: 1_070_000) == 0)
        #expect(look(&spin, from: 1_073_000) == 50)
    }

    @Test func whoWasUndisturbedForLongBeginsWithAShortRestAgain() {
        var spin = Spin(.microseconds(50))
        for moment in [1_000_000, 1_011_000, 1_032_000] as [UInt64] {
            #expect(isDisturbed(&spin, at: moment, for: 40))
        }
        #expect(isDisturbed(&spin, at: 2_000_000, for: 40))
        #expect(look(&spin, from: 2_011_000) == 50)
    }

    @Test func aRestIsNeverLongerThanTheLongest() {
        var spin = Spin(.microseconds(50))
        var moment: UInt64 = 1_000_000
        for _ in 0..<20 {
            #expect(isDisturbed(&spin, at: moment, for: 40))
            moment += Spin.rests.upperBound / 1000 + 1000
        }
    }
}
