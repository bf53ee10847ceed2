// SPDX-License-Identifier: Apache-2.0
import PageWire
import TestSupport
import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct SourceCommitTests {
    private typealias State = SourceCommit.State
    private typealias Resolution = SourceCommit.Resolution

    private static let tally = PageTally(pages: 7, high: 1, low: 2)

    /// A machine in `state`, reached on the ordinary way.
    private static func machine(in state: State) -> SourceCommit {
        var machine = SourceCommit()
        if state == .waiting { return machine }
        if state == .ended {
            _ = machine.connectionLost()
            return machine
        }
        _ = machine.descriptionRequested()
        if state == .frozen { return machine }
        _ = machine.builtArrived()
        if state == .recording { return machine }
        _ = machine.grantRecorded()
        if state == .granted { return machine }
        if state == .running {
            _ = machine.runningArrived()
            return machine
        }
        _ = machine.completeArrived(tally, served: tally, existing: 7)
        return machine
    }

    /// What the one rule about broken sessions says in each state, and where it leads.
    private static let resolutions: [(State, Resolution, State)] = [
        (.waiting, .leaveRunning, .ended),
        (.frozen, .thaw, .ended),
        (.recording, .thaw, .ended),
        (.granted, .stayFrozen, .granted),
        (.running, .stayFrozen, .running),
        (.completed, .none, .completed),
        (.ended, .leaveRunning, .ended),
    ]

    @Test func theOrdinaryWayFreezesRecordsGrantsAndDisposes() {
        var machine = SourceCommit()
        #expect(machine.state == .waiting)
        let describe = machine.descriptionRequested()
        #expect(describe == .freeze)
        #expect(machine.state == .frozen)
        let built = machine.builtArrived()
        #expect(built == .recordGrant)
        #expect(machine.state == .recording)
        let grant = machine.grantRecorded()
        #expect(grant == .sendGrant)
        #expect(machine.state == .granted)
        let running = machine.runningArrived()
        #expect(running == .reportRunning)
        #expect(machine.state == .running)
        let complete = machine.completeArrived(Self.tally, served: Self.tally, existing: 7)
        #expect(complete == .acknowledgeAndDispose)
        #expect(machine.state == .completed)
    }

    @Test func everyBreakThawsBeforeTheGrantAndNeverAfterIt() {
        for (state, resolution, next) in Self.resolutions {
            for event in 0..<5 {
                var machine = Self.machine(in: state)
                let answer: Resolution
                switch event {
                case 0: answer = machine.connectionLost()
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

    @Test func aMessageAtTheWrongTimeIsABreak() {
        for (state, resolution, next) in Self.resolutions {
            if state != .waiting {
                var machine = Self.machine(in: state)
                let answer = machine.descriptionRequested()
                #expect(answer == .violation(resolution), "describe in \(state)")
                #expect(machine.state == next)
            }
            if state != .frozen && state != .granted {
                var machine = Self.machine(in: state)
                let answer = machine.builtArrived()
                #expect(answer == .violation(resolution), "built in \(state)")
                #expect(machine.state == next)
            }
            if state != .recording {
                var machine = Self.machine(in: state)
                let answer = machine.grantRecorded()
                #expect(answer == .withhold(resolution), "recorded in \(state)")
                #expect(machine.state == next)
            }
            if state != .granted && state != .running {
                var machine = Self.machine(in: state)
                let running = machine.runningArrived()
                #expect(running == .violation(resolution), "running in \(state)")
            }
            if ![.granted, .running, .completed].contains(state) {
                var other = Self.machine(in: state)
                let complete = other.completeArrived(Self.tally, served: Self.tally, existing: 7)
                #expect(complete == .violation(resolution), "complete in \(state)")
                #expect(other.state == next)
            }
        }
    }

    /// A destination that has lost its connections says again what may not have been heard.
    @Test func whatIsSaidAgainIsAnsweredAgainAndChangesNothing() {
        var granted = Self.machine(in: .granted)
        let built = granted.builtArrived()
        #expect(built == .repeatGrant)
        #expect(granted.state == .granted)
        var running = Self.machine(in: .running)
        let again = running.runningArrived()
        #expect(again == .ignore)
        #expect(running.state == .running)
        let violation = running.builtArrived()
        #expect(violation == .violation(.stayFrozen), "a copy that ran is not built anew")
        var completed = Self.machine(in: .completed)
        let complete = completed.completeArrived(Self.tally, served: Self.tally, existing: 7)
        #expect(complete == .acknowledgeAgain)
        let other = completed.completeArrived(
            PageTally(pages: 7, high: 0, low: 0),
            served: Self.tally,
            existing: 7
        )
        #expect(other == .violation(.none))
        #expect(completed.state == .completed)
    }

    @Test func onlyAnEqualCompleteDisposes() {
        let wrong: [(claim: PageTally, served: PageTally, existing: UInt64, SourceCommit.Mismatch)] = [
            (Self.tally, Self.tally, 8, .notAllServed(served: 7, existing: 8)),
            (PageTally(pages: 6, high: 1, low: 2), Self.tally, 7, .count(claimed: 6, served: 7)),
            (
                PageTally(pages: 7, high: 1, low: 3), Self.tally, 7,
                .digest(
                    claimed: "00000000000000010000000000000003",
                    served: "00000000000000010000000000000002"
                )
            ),
            (
                PageTally(pages: 7, high: 0, low: 2), Self.tally, 7,
                .digest(
                    claimed: "00000000000000000000000000000002",
                    served: "00000000000000010000000000000002"
                )
            ),
        ]
        var machine = Self.machine(in: .granted)
        for (claim, served, existing, mismatch) in wrong {
            let answer = machine.completeArrived(claim, served: served, existing: existing)
            #expect(answer == .reject(mismatch))
            #expect(machine.state == .granted)
        }
        let answer = machine.completeArrived(Self.tally, served: Self.tally, existing: 7)
        #expect(answer == .acknowledgeAndDispose)
    }

    @Test func aMismatchSaysWhatDiffers() {
        let served = SourceCommit.Mismatch.notAllServed(served: 1, existing: 2).description
        #expect(served == "the destination claims to be complete, but 1 of 2 pages were sent")
        let count = SourceCommit.Mismatch.count(claimed: 1, served: 2).description
        #expect(count == "the destination counted 1 pages where 2 were sent")
        let digest = SourceCommit.Mismatch.digest(claimed: "a", served: "b").description
        #expect(digest == "the destination's digest is a where b was sent")
    }

    /// Promise 2 over random events: after the grant was sent nothing says thaw or leave running.
    @Test(arguments: 0..<20)
    func noSequenceOfEventsThawsAfterTheGrant(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<200 {
            var machine = SourceCommit()
            var granted = false
            for _ in 0..<12 {
                let resolution: Resolution?
                switch Int.random(in: 0..<9, using: &random) {
                case 0:
                    if case .violation(let it) = machine.descriptionRequested() {
                        resolution = it
                    } else {
                        resolution = nil
                    }
                case 1:
                    if case .violation(let it) = machine.builtArrived() { resolution = it } else { resolution = nil }
                case 2:
                    switch machine.grantRecorded() {
                    case .sendGrant:
                        #expect(!granted)
                        granted = true
                        resolution = nil
                    case .withhold(let it): resolution = it
                    }
                case 3:
                    if case .violation(let it) = machine.runningArrived() { resolution = it } else { resolution = nil }
                case 4: resolution = machine.connectionLost()
                case 5: resolution = machine.abortArrived()
                case 6: resolution = machine.stopRequested()
                case 7: resolution = machine.failed()
                default:
                    let isEqual = random.one(in: 4)
                    let claim = isEqual ? Self.tally : PageTally(pages: 7, high: 0, low: 0)
                    let answer = machine.completeArrived(claim, served: Self.tally, existing: 7)
                    #expect(answer != .acknowledgeAndDispose || (granted && isEqual), "seed \(seed)")
                    if case .violation(let it) = answer { resolution = it } else { resolution = nil }
                }
                if granted {
                    #expect(resolution != .thaw && resolution != .leaveRunning, "seed \(seed)")
                } else {
                    #expect(resolution != .stayFrozen && resolution != Resolution.none, "seed \(seed)")
                }
            }
        }
    }
}
