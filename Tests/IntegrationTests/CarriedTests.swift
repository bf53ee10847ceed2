// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing

/// Every piece of state that is carried is as before after a move, while the memory is still arriving.
@Suite(
    .serialized,
    .timeLimit(.minutes(3 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct CarriedTests {
    /// Parts of the victim that are moved together, see `Victim parts`.
    static let groups: [[String]] = [
        ["heap", "anonymous", "sparse", "growsdown"],
        ["hidden", "guard", "advice", "huge"],
        ["locked"],
        ["private-file", "shared-file"],
        ["shared-memory", "memfd"],
        ["shared-pages", "heap"],
        ["shared-life", "anonymous"],
        ["fork", "shared-pages", "shared-life"],
        ["stack", "heap"],
        ["fork", "heap", "anonymous", "sparse", "hidden", "advice", "private-file", "shared-memory", "memfd"],
        ["remap"],
        ["kernel", "itimers"],
        ["threads"],
        ["locks"],
        ["registers"],
        ["actions", "alternate-stack"],
        ["queue"],
        ["handler"],
        ["calls"],
        ["ipc-calls"],
        ["itimers"],
        ["posix-timers"],
        ["timerfd"],
        ["files", "devices"],
        ["pipes"],
        ["events"],
        ["credentials", "identity"],
        ["strict"],
        ["settings"],
        ["lock-future"],
    ]

    @Test(arguments: groups)
    func stateIsAsBeforeAfterAMove(parts: [String]) throws {
        try withMovableVictim("carried", parts) { victim in
            let move = try Move(of: victim.pid)
            try move.waitUntilRunning()
            // At once: the victim looks at its state while pages are on their way.
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0), "\(move.restorer.report())")
            #expect(try move.server.waitForExit() == .exited(0), "\(move.server.report())")
            #expect(try victim.process.waitForExit() == .signaled(9))
        }
    }

    @Test func everyPartIsMoved() throws {
        let all = try withProcess(BuiltProduct.victim, ["parts"]) { try $0.output?.rest() ?? [] }
        let names = Set(all.compactMap { $0.split(separator: " ").first.map(String.init) })
        #expect(names.subtracting(Self.groups.joined()) == ["large"])
    }

    @Test(.enabled(if: slowness == 1, "with a sanitizer five moves take longer than its timers run"))
    func everythingIsAsBeforeAfterFiveMoves() throws {
        try withMovableVictim("everything") { victim in
            var pid = victim.pid
            var moves: [Move] = []
            for number in 1...5 {
                var options = Move.Options()
                // The first four go on without their restorer, the last one reports how the process ended.
                if number < 5 { options.destination.append("--detach") }
                let move = try Move(of: pid, options)
                moves.append(move)
                pid = try move.waitUntilRunning()
                try victim.tell("round.\(number)")
                let line = try victim.waitForLine { $0.hasPrefix("round \(number) ") }
                try #require(line == "round \(number) ok")
                try move.waitUntilComplete()
                if number < 5 { #expect(try move.restorer.waitForExit() == .exited(0)) }
            }
            let verdict = try victim.verdict()
            #expect(verdict == "ok everything")
            #expect(try moves.last?.restorer.waitForExit() == .exited(0))
        }
    }

    @Test func stoppedProcessIsStoppedAgain() throws {
        try withMovableVictim("carried", ["heap"]) { victim in
            victim.process.signal(19)
            try wait(for: "the stop") { processState(victim.pid) == "T" }
            let move = try Move(of: victim.pid)
            let copy = try move.waitUntilRunning()
            try wait(for: "the copy to be stopped") { processState(copy) == "T" }
            try move.waitUntilComplete()
            #expect(processState(copy) == "T")
            send(18, to: copy)
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0))
        }
    }
}
