// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing

/// `thaw page-server --tracker`: what is asked for is had, or an error before anything has happened.
@Suite(
    .serialized,
    .timeLimit(.minutes(4 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct TrackerOptionTests {
    /// What is asked for, and what the statistics of the restorer say.
    @Test(arguments: [
        ("auto", "writeProtectAsync"), ("wp-async", "writeProtectAsync"), ("wp-sync", "writeProtectSync"),
    ])
    func writesAreNoticedAsAskedFor(word: String, tracker: String) throws {
        try withMovableVictim("churn", ["31", "4", "5"]) { victim in
            let statistics = victim.folder.file("statistics")
            let move = try Move(of: victim.pid, options(["--tracker", word], ["--stats", statistics]))
            try move.waitUntilRunning()
            try move.waitUntilComplete()
            #expect(move.restorerEvents.names.contains("pre-copy"))
            let verdict = try victim.verdict()
            #expect(verdict == "ok churn")
            #expect(try move.restorer.waitForExit() == .exited(0), "\(move.restorer.report())")
            #expect(try JSONValue(parsing: readText(statistics))["tracker"]?.string == tracker)
            #expect(!move.server.errors.contains("not tracked"), "\(move.server.errors)")
        }
    }

    @Test func noneIsSaidAndNothingIsSentBeforeTheFreeze() throws {
        try withMovableVictim("carried", ["heap"]) { victim in
            let statistics = victim.folder.file("statistics")
            let move = try Move(of: victim.pid, options(["--tracker", "none"], ["--stats", statistics]))
            try move.waitUntilRunning()
            try move.waitUntilComplete()
            #expect(!move.restorerEvents.names.contains("pre-copy"))
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0))
            #expect(try JSONValue(parsing: readText(statistics))["tracker"]?.string == "none")
            #expect(move.server.errors.contains("Writes are not tracked"), "\(move.server.errors)")
        }
    }

    @Test func whatIsNotThereIsExitCode69BeforeAnybodyIsListenedTo() throws {
        try withMovableVictim("carried", ["heap"]) { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            let words = ["--tracker", "soft-dirty", "--interval", "0.05", "--rounds", "1"]
            let trial = try Tracking(of: victim.pid, words)
            guard try trial.finish() != .exited(0) else {
                Issue.record("not tried: this kernel has soft-dirty bits", severity: .warning)
                return
            }
            let server = try Move.startServer(victim.pid, ["--tracker", "soft-dirty"])
            let events = StatusEvents(of: server)
            try events.finish()
            #expect(try server.waitForExit() == .exited(69), "\(server.report())")
            #expect(events.names == ["failed"] && events.first("failed")?["code"]?.integer == 69)
            #expect(server.errors.contains("soft-dirty") && server.errors.contains("wp-async"), "\(server.errors)")
            #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
        }
    }

    /// A device may write into memory without anybody's seeing it.
    @Test func directIOIsRefusedWhereATrackerWasAskedForAndSaidOtherwise() throws {
        try withMovableVictim("vast", ["1", "10", "0", "direct"]) { victim in
            let refusing = try Move.startServer(victim.pid, ["--tracker", "wp-async"])
            #expect(try refusing.waitForExit() == .exited(78), "\(refusing.report())")
            #expect(refusing.errors.contains("O_DIRECT") && refusing.errors.contains("--tracker none"))
            let move = try Move(of: victim.pid, options([], []))
            try move.waitUntilRunning()
            try move.waitUntilComplete()
            #expect(move.server.errors.contains("O_DIRECT"), "\(move.server.errors)")
            let verdict = try victim.verdict()
            #expect(verdict == "ok vast")
            #expect(try move.restorer.waitForExit() == .exited(0))
        }
    }

    /// The tracker of a destination that was lost is gone with it, and what it knew is not asked for any more.
    @Test(arguments: ["wp-async", "wp-sync"])
    func anotherDestinationComesAfterOneThatWasLost(tracker: String) throws {
        try withMovableVictim("carried", ["large", "locks"]) { victim in
            var endless = options(["--tracker", tracker], [])
            endless.stallsAfter = 16 << 20
            let first = try Move(of: victim.pid, endless)
            try wait(for: "the tracker") { try isTracked(victim.pid) }
            first.restorer.end()
            let (second, events) = try Self.startWhenThereIsRoom(first)
            defer { second.end() }
            try events.wait(for: "complete")
            #expect(try first.server.waitForExit() == .exited(0), "\(first.server.report())")
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(try second.waitForExit() == .exited(0), "\(second.report())")
        }
    }

    /// A restorer that the page server takes: until it has noticed that the last one is gone, others are told to try again.
    private static func startWhenThereIsRoom(_ first: Move) throws -> (TestProcess, StatusEvents) {
        let deadline = ContinuousClock.now + patience
        while true {
            guard try first.server.pollForExit() == nil else { throw TestFailure("ended: \(first.server.report())") }
            let restorer = try Move.startRestorer(first.port)
            let events = StatusEvents(of: restorer)
            do {
                try events.wait(for: "connected")
                return (restorer, events)
            } catch {
                let ending = try restorer.waitForExit()
                guard ending == .exited(75), ContinuousClock.now < deadline else { throw error }
            }
        }
    }

    private func options(_ source: [String], _ destination: [String]) -> Move.Options {
        var options = Move.Options()
        options.preCopies = true
        options.source = source
        options.destination += destination
        return options
    }
}
