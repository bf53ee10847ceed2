// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// What becomes of a process whose source stays lost, and how a source that only does not answer is found.
@Suite(
    .serialized,
    .timeLimit(.minutes(3 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct SourceLossTests {
    private func withLoss(
        _ arguments: [String],
        _ body: (MovableVictim, Move, CuttingProxy, Int32) throws -> Void
    ) throws {
        try withMovableVictim("carried", ["large", "anonymous"]) { victim in
            var options = Move.Options()
            options.isProxied = true
            options.destination += arguments
            let move = try Move(of: victim.pid, options)
            let proxy = try #require(move.proxy)
            let copy = try move.waitUntilRunning()
            try body(victim, move, proxy, copy)
        }
    }

    @Test func itIsStoppedAndGoesOnWhenTheSourceIsBack() throws {
        try withLoss(["--loss-timeout", "1"]) { victim, move, proxy, copy in
            proxy.refuse(true)
            proxy.cutAll()
            try move.restorerEvents.wait(for: "lost")
            try wait(for: "the stop") { processState(copy) == "T" }
            proxy.refuse(false)
            try move.restorerEvents.wait(for: "resumed")
            try wait(for: "it to go on") { processState(copy) != "T" }
            try move.waitUntilComplete()
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0))
        }
    }

    /// Pages that have not come raise SIGBUS with their address, and come all the same when the source is back.
    @Test func itIsPoisonedAndHealed() throws {
        try withMovableVictim("bus") { victim in
            var options = Move.Options()
            options.destination += ["--on-source-loss", "poison", "--loss-timeout", "1"]
            options.stallsStreamAfter = 2 << 20
            let move = try Move(of: victim.pid, options)
            let proxy = try #require(move.proxy)
            try move.waitUntilRunning()
            try wait(for: "the stall") { proxy.cuts > 0 }
            // What it needs to go on has come by faults.
            try victim.tell("here")
            try victim.waitForLine { $0 == "here" }
            proxy.refuse(true)
            proxy.cutAll()
            try wait(for: "the poison") { move.restorer.report().contains("SIGBUS") }
            try victim.tell("look")
            let line = try victim.waitForLine { $0.hasPrefix("buses ") }
            let buses = try #require(line.split(separator: " ").dropFirst().first.flatMap { Int($0) })
            // What had come is right, and the rest is no zeros.
            #expect(buses > 100 && line.hasSuffix("EFAULT"), "\(line)")
            proxy.refuse(false)
            try move.waitUntilComplete()
            let verdict = try victim.verdict()
            #expect(verdict == "ok bus")
            #expect(try move.restorer.waitForExit() == .exited(0))
        }
    }

    @Test func itIsKilledAndTheSourceKept() throws {
        try withLoss(["--on-source-loss", "kill", "--loss-timeout", "1"]) { victim, move, proxy, copy in
            proxy.refuse(true)
            proxy.cutAll()
            try wait(for: "the end") { !processIsAlive(copy) }
            #expect(try move.restorer.waitForExit() == .exited(74), "\(move.restorer.report())")
            #expect(processState(victim.pid).map { "tT".contains($0) } == true)
        }
    }

    /// By default it waits, for ever; nobody is told that the source is back before it is.
    @Test func aSourceThatOnlyDoesNotAnswerIsFoundInSeconds() throws {
        try withLoss([]) { victim, move, proxy, copy in
            proxy.stall(true)
            // Three seconds to the question, nine for the answer, and room for a busy machine.
            try move.restorerEvents.wait(for: "lost", within: .seconds(25))
            #expect(processState(copy) != "T")
            proxy.cutAll()
            proxy.stall(false)
            try move.restorerEvents.wait(for: "resumed")
            try move.waitUntilComplete()
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0))
        }
    }
}
