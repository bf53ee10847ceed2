// SPDX-License-Identifier: Apache-2.0
import PageWire
import TestSupport
import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct DestinationCommitTests {
    private typealias State = DestinationCommit.State
    private typealias Resolution = DestinationCommit.Resolution

    private static let tally = PageTally(pages: 7, high: 1, low: 2)

    /// A machine in `state`, reached on the ordinary way.
    private static func machine(in state: State) -> DestinationCommit {
        var machine = DestinationCommit()
        if state == .building { return machine }
        if state == .ended {
            _ = machine.failed()
            return machine
        }
        _ = machine.built()
        if state == .awaitingGrant { return machine }
        _ = machine.grantArrived()
        if state == .releasing { return machine }
        _ = machine.released()
        if state == .draining { return machine }
        _ = machine.becameResident(tally)
        if state == .completing { return machine }
        _ = machine.acknowledgementArrived()
        return machine
    }

    /// What the one rule about broken sessions says in each state, and where it leads.
    private static let resolutions: [(State, Resolution, State)] = [
        (.building, .destroyCopy, .ended),
        (.awaitingGrant, .destroyCopy, .ended),
        (.releasing, .destroyCopy, .ended),
        (.draining, .keepServing, .draining),
        (.completing, .runOnUnacknowledged, .completing),
        (.acknowledged, .none, .acknowledged),
        (.ended, .none, .ended),
    ]

    @Test func theOrdinaryWayBuildsReleasesDrainsAndFinishes() {
        var machine = DestinationCommit()
        #expect(machine.state == .building)
        let built = machine.built()
        #expect(built == .sendBuilt)
        #expect(machine.state == .awaitingGrant)
        let grant = machine.grantArrived()
        #expect(grant == .release)
        #expect(machine.state == .releasing)
        let released = machine.released()
        #expect(released == .sendRunning)
        #expect(machine.state == .draining)
        let resident = machine.becameResident(Self.tally)
        #expect(resident == .sendComplete(Self.tally))
        #expect(machine.state == .completing)
        let acknowledged = machine.acknowledgementArrived()
        #expect(acknowledged == .finish)
        #expect(machine.state == .acknowledged)
    }

    @Test func everyBreakDestroysACopyThatNeverRanAndNoOther() {
        for (state, resolution, next) in Self.resolutions {
            for event in 0..<5 {
                var machine = Self.machine(in: state)
                let answer: Resolution
                switch event {
                case 0: answer = machine.gaveUpReconnecting()
                case 1: answer = machine.abortArrived()
                case 2: answer = machine.violated()
                case 3: answer = machine.failed()
                default: answer = machine.stopRequested()
                }
                #expect(answer == resolution, "event \(event) in \(state)")
                #expect(machine.state == next, "event \(event) in \(state)")
            }
        }
    }

    /// From BUILT on a lost connection changes nothing but that the session has to be taken up again, and what may not have been
    /// heard is said again.
    @Test func aLostConnectionIsNoBreakOnceTheGrantMayBeOnItsWay() {
        let words: [(State, DestinationCommit.ResumedAction)] = [
            (.awaitingGrant, .sendBuilt),
            (.releasing, .wait),
            (.draining, .sendRunning),
            (.completing, .sendComplete(Self.tally)),
        ]
        for (state, word) in words {
            var machine = Self.machine(in: state)
            for _ in 0..<3 {
                let lost = machine.connectionLost()
                #expect(lost == .reconnect)
                #expect(machine.state == state)
                let resumed = machine.resumed()
                #expect(resumed == word)
                #expect(machine.state == state)
            }
        }
        for (state, resolution) in [(State.building, Resolution.destroyCopy), (.acknowledged, .none), (.ended, .none)] {
            var machine = Self.machine(in: state)
            let lost = machine.connectionLost()
            #expect(lost == resolution)
            var other = Self.machine(in: state)
            let resumed = other.resumed()
            #expect(resumed == .withhold(resolution))
        }
    }

    @Test func anEventAtTheWrongTimeIsABreak() {
        for (state, resolution, next) in Self.resolutions {
            if state != .building {
                var machine = Self.machine(in: state)
                let answer = machine.built()
                #expect(answer == .withhold(resolution), "built in \(state)")
                #expect(machine.state == next)
            }
            if state != .awaitingGrant {
                var machine = Self.machine(in: state)
                let answer = machine.grantArrived()
                #expect(answer == .violation(resolution), "grant in \(state)")
                #expect(machine.state == next)
            }
            if state != .releasing {
                var machine = Self.machine(in: state)
                let answer = machine.released()
                #expect(answer == .withhold(resolution), "released in \(state)")
                #expect(machine.state == next)
            }
            if state != .draining {
                var machine = Self.machine(in: state)
                let answer = machine.becameResident(Self.tally)
                #expect(answer == .withhold(resolution), "resident in \(state)")
                #expect(machine.state == next)
            }
            if state != .completing {
                var machine = Self.machine(in: state)
                let answer = machine.acknowledgementArrived()
                #expect(answer == .violation(resolution), "acknowledged in \(state)")
                #expect(machine.state == next)
            }
        }
    }

    /// A second GRANT, or one after a break, releases nothing: at most one copy runs.
    @Test(arguments: 0..<20)
    func noSequenceOfEventsReleasesTwiceOrDestroysWhatRuns(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<200 {
            var machine = DestinationCommit()
            var releases = 0
            var runs = false
            for _ in 0..<12 {
                var resolution: Resolution?
                switch Int.random(in: 0..<10, using: &random) {
                case 0: if case .withhold(let it) = machine.built() { resolution = it }
                case 1:
                    switch machine.grantArrived() {
                    case .release: releases += 1
                    case .violation(let it): resolution = it
                    }
                case 2:
                    switch machine.released() {
                    case .sendRunning: runs = true
                    case .withhold(let it): resolution = it
                    }
                case 3: if case .withhold(let it) = machine.becameResident(Self.tally) { resolution = it }
                case 4: if case .violation(let it) = machine.acknowledgementArrived() { resolution = it }
                case 5: resolution = machine.connectionLost()
                case 6: resolution = machine.abortArrived()
                case 7: if case .withhold(let it) = machine.resumed() { resolution = it }
                case 8: resolution = machine.gaveUpReconnecting()
                default: resolution = machine.stopRequested()
                }
                #expect(releases <= 1, "seed \(seed)")
                #expect(!runs || resolution != .destroyCopy, "seed \(seed)")
                #expect(runs || resolution != .keepServing, "seed \(seed)")
            }
        }
    }
}
