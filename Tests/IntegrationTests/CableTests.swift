// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// The cable is pulled in the middle of moves: no end and no reset comes on either side, and nothing answers.
@Suite(
    .serialized,
    .timeLimit(.minutes(4 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root"),
    .enabled(if: Cable.programs != nil, "needs iproute2 and util-linux: run deploy/bootstrap")
)
struct CableTests {
    /// Keep-alive and the signs of life of both sides take twelve seconds; with room for a busy machine.
    private static let seconds = Duration.seconds(30)

    /// A move whose process is frozen, and whose restorer is stopped before it can ask for the grant.
    private func stopBeforeGrant(_ options: Move.Options) throws -> (MovableVictim, Move) {
        for _ in 0..<10 {
            let victim = try MovableVictim("carried", ["heap", "threads"], on: options.cable)
            let move = try Move(of: victim.pid, options)
            try move.serverEvents.wait(for: "frozen")
            move.restorer.signal(SIGSTOP)
            // A restorer that was faster has asked for it by now.
            let wasFaster =
                (try? wait(for: "the grant", within: .milliseconds(300)) {
                    move.server.errors.contains("may let its copy run")
                }) != nil
            guard wasFaster else { return (victim, move) }
        }
        throw TestFailure("the restorer is always faster")
    }

    @Test func bothSidesFindItInSecondsAndNothingIsLost() throws {
        let cable = try Cable()
        try withMovableVictim("carried", ["large", "anonymous"], on: cable) { victim in
            var options = Move.Options()
            options.cable = cable
            let (early, undone) = try stopBeforeGrant(options)
            defer { early.process.end() }
            let move = try Move(of: victim.pid, options)
            try move.waitUntilRunning()
            // While it lets the process go a destination may be silent for longer.
            try wait(for: "the source to hear of it") { move.server.errors.contains("runs at the destination") }
            try cable.plug(false)
            undone.restorer.signal(SIGCONT)
            let pulled = ContinuousClock.now

            // Amid the drain: the source keeps its process, and both look for each other.
            try move.restorerEvents.wait(for: "lost", within: Self.seconds)
            try move.serverEvents.wait(for: "lost", within: Self.seconds)
            #expect(!move.restorerEvents.names.contains("resident"))
            #expect(processState(victim.pid).map { "tT".contains($0) } == true)
            // Before the grant: it is undone, with no cable.
            let limit = Self.seconds - (ContinuousClock.now - pulled)
            #expect(try undone.server.waitForExit(within: limit) == .exited(75), "\(undone.server.report())")
            let verdict = try early.verdict()
            #expect(verdict == "ok carried")
            #expect(try early.process.waitForExit() == .exited(0))
            let ending = try undone.restorer.waitForExit(within: Self.seconds)
            #expect(ending == .exited(75) || ending == .exited(74), "\(undone.restorer.report())")

            try cable.plug(true)
            try move.restorerEvents.wait(for: "resumed")
            try move.waitUntilComplete()
            let last = try victim.verdict()
            #expect(last == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0))
        }
    }
}
