// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import ProcessTrace

/// To which sleep a timer belongs.
@Suite(.timeLimit(.minutes(5)))
struct SleepDeadlinesTests {
    private typealias Sleeper = SleepDeadlines.Sleeper
    private static let second: Int64 = 1_000_000_000

    @Test func theTimerNearestToTheExpectedEndIsTaken() {
        let now = 100 * Self.second
        let sleepers = [
            Sleeper(tid: 1, since: now - Self.second, requested: 10 * Self.second, isRestarted: false),
            Sleeper(tid: 2, since: now - 2 * Self.second, requested: 11 * Self.second + 1000, isRestarted: false),
        ]
        let ends = [now + 9 * Self.second + 900, now + 9 * Self.second + 60]
        let deadlines = SleepDeadlines.match(sleepers, timers: ends, now: now)
        #expect(deadlines == [1: ends[1], 2: ends[0]])
    }

    @Test func aTimerOfSomebodyElseIsNotTaken() {
        let now = 100 * Self.second
        let sleeper = Sleeper(tid: 1, since: now - Self.second, requested: 10 * Self.second, isRestarted: false)
        #expect(SleepDeadlines.match([sleeper], timers: [now + 5 * Self.second], now: now).isEmpty)
        #expect(SleepDeadlines.match([sleeper], timers: [], now: now).isEmpty)
    }

    @Test func aRestartedSleepTakesWhatIsLeftOver() {
        let now = 100 * Self.second
        let sleepers = [
            Sleeper(tid: 1, since: now - Self.second, requested: 10 * Self.second, isRestarted: true),
            Sleeper(tid: 2, since: now - Self.second, requested: 8 * Self.second, isRestarted: false),
        ]
        let timers = [now + 3 * Self.second, now + 7 * Self.second, now + 50 * Self.second]
        #expect(SleepDeadlines.match(sleepers, timers: timers, now: now) == [1: timers[0], 2: timers[1]])
    }

    @Test func aCallThatWasMadeWithTheRestOfItsTimeDoesNotReturnEarly() {
        let now = 100 * Self.second
        func sleeper(_ tid: Int32, _ requested: Int64) -> Sleeper {
            Sleeper(
                tid: tid,
                since: now - Self.second,
                requested: requested * Self.second,
                isRestarted: false,
                mayBeShorter: true
            )
        }
        let timers = [now + 3 * Self.second, now + 5 * Self.second, now + 9 * Self.second]
        // Its own where it was not stopped before; else the last that can be its own.
        #expect(SleepDeadlines.match([sleeper(1, 4)], timers: timers, now: now) == [1: timers[0]])
        #expect(SleepDeadlines.match([sleeper(1, 8)], timers: timers, now: now) == [1: timers[1]])
        #expect(
            SleepDeadlines.match([sleeper(1, 7), sleeper(2, 8)], timers: timers, now: now) == [
                1: timers[1], 2: timers[1],
            ]
        )
        #expect(SleepDeadlines.match([sleeper(1, 2)], timers: timers, now: now).isEmpty)
    }

    @Test func extremeTimesDoNotOverflow() {
        let sleepers = [
            Sleeper(tid: 1, since: 5, requested: .max, isRestarted: false),
            Sleeper(tid: 2, since: 5, requested: .max, isRestarted: true),
        ]
        let deadlines = SleepDeadlines.match(sleepers, timers: [.min, 0, .max], now: 10)
        #expect(deadlines == [1: .max, 2: 0])
    }

    @Test func theListOfTimersIsTakenApart() throws {
        let text = """
            cpu: 0
             clock 1:
              .index:      1
              .offset:     1000 nsecs
            active timers:
             #0: <000000002fb579f0>, hrtimer_wakeup, S:01
             # expires at 5000-5050 nsecs [in 6268731 to 6318731 nsecs]
             #1: <00000000aaaaaaaa>, tick_nohz_handler, S:01
             # expires at 7000-7000 nsecs [in 3036937 to 3036937 nsecs]
             #2: <00000000bbbbbbbb>, hrtimer_wakeup, S:01
             # expires at 9000-9050 nsecs [in 1 to 2 nsecs]

            """
        let timers = try KernelTimers(Array(text.utf8), file: "timer_list")
        #expect(timers.entries.map(\.deadline) == [4000, 8000])
        let later = try KernelTimers(Array(text.replacing("bbbbbbbb", with: "cccccccc").utf8), file: "timer_list")
        #expect(timers.vanished(in: later).map(\.deadline) == [8000])
        #expect(throws: TraceError.self) { try KernelTimers(Array(" # expires at soon\n".utf8), file: "timer_list") }
    }
}
