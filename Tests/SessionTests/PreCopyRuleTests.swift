// SPDX-License-Identifier: Apache-2.0
import PageWire
import Testing

@testable import PageServer

@Suite(.serialized, .timeLimit(.minutes(5)))
struct PreCopyRuleTests {
    private static func rule(rounds: UInt32 = 10, pause: UInt64 = 0) -> PreCopyRule {
        PreCopyRule(PreCopyRequest(rounds: rounds, maximumPause: pause, maximumPages: .max))
    }

    @Test func theFirstRoundIsAlwaysSent() {
        #expect(Self.rule().goesOn(with: 0))
        #expect(Self.rule(rounds: 1).goesOn(with: 1 << 30))
    }

    @Test func noMoreRoundsThanAllowed() {
        var rule = Self.rule(rounds: 2)
        rule.sent(100_000, in: .seconds(1))
        #expect(rule.goesOn(with: 10_000))
        rule.sent(10_000, in: .milliseconds(100))
        #expect(!rule.goesOn(with: 1_000))
    }

    @Test func itEndsWhenTheRestFitsIntoThePause() {
        var rule = Self.rule(pause: 50_000_000)
        rule.sent(100_000, in: .seconds(1))
        #expect(rule.goesOn(with: 5_100))
        #expect(!rule.goesOn(with: 4_900))
        #expect(rule.estimate(5_000) == .milliseconds(50))
    }

    @Test func itEndsWhenPagesAreWrittenAsFastAsSent() {
        var rule = Self.rule()
        rule.sent(100_000, in: .seconds(1))
        #expect(!rule.goesOn(with: 80_000))
        #expect(rule.goesOn(with: 79_000))
        rule.sent(79_000, in: .milliseconds(790))
        #expect(!rule.goesOn(with: 78_000))
    }

    @Test func aHandfulOfPagesIsLeftForLater() {
        var rule = Self.rule()
        rule.sent(100_000, in: .seconds(1))
        #expect(!rule.goesOn(with: 64))
        #expect(rule.goesOn(with: 65))
    }

    @Test func theLargestRoundMeasuresTheBandwidth() {
        var rule = Self.rule()
        #expect(rule.estimate(1) == nil)
        rule.sent(100_000, in: .seconds(2))
        rule.sent(10, in: .seconds(1))
        #expect(rule.bandwidth == 50_000)
    }
}
