// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Testing

@Suite("Deadlines")
struct DeadlineTests {
    @Test func neverIsForEver() {
        #expect(!Deadline.never.hasPassed)
        #expect(Deadline.never.timeLeft == nil)
        #expect(Deadline.never.milliseconds == -1)
    }

    @Test(arguments: [Duration.zero, .seconds(-1), .nanoseconds(-1)])
    func noTimeHasPassedAtOnce(_ time: Duration) {
        #expect(Deadline.after(time).hasPassed)
        #expect(Deadline.after(time).milliseconds == 0)
        #expect(Deadline.after(time).timeLeft == .zero)
    }

    @Test func millisecondsAreRoundedUpSoThatNobodySpins() {
        let deadline = Deadline.after(.seconds(1000) + .nanoseconds(1))
        #expect((999_000...1_000_001).contains(deadline.milliseconds))
        let short = Deadline.after(.microseconds(900))
        #expect(short.milliseconds == 1 || short.hasPassed)
    }

    @Test(arguments: [Duration.seconds(Int64.max), .seconds(20_000_000_000), .seconds(Int64.max / 2)])
    func whatIsTooLongIsForEverAndNoTrap(_ time: Duration) {
        #expect(!Deadline.after(time).hasPassed)
        #expect(Deadline.after(time).milliseconds == -1 || Deadline.after(time).milliseconds == Int32.max)
    }

    @Test func theEarlierOneIsFound() {
        let soon = Deadline.after(.seconds(10))
        let late = Deadline.after(.seconds(20))
        #expect(soon.earlier(late) == soon)
        #expect(late.earlier(soon) == soon)
        #expect(Deadline.never.earlier(soon) == soon)
    }

    @Test func theMonotonicClockDoesNotGoBack() {
        let first = MonotonicTime.now
        let second = MonotonicTime.now
        #expect(first <= second)
        #expect(second - first >= .zero)
        #expect(first - second <= .zero)
        #expect(MonotonicTime(nanoseconds: 5) - MonotonicTime(nanoseconds: 7) == .nanoseconds(-2))
    }
}
