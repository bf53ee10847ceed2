// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing

/// Before the grant every failure lets the process run on; after it the source never runs again by itself.
@Suite(
    .serialized,
    .timeLimit(.minutes(3 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct FailureTests {
    /// Other processes that were started with this folder on their command line: a half-built or a running copy.
    private func copies(of victim: MovableVictim) throws -> [Int32] {
        try namesInFolder("/proc").compactMap { Int32($0) }.filter { pid in
            guard pid != victim.pid, processIsAlive(pid) else { return false }
            return (try? readText("/proc/\(pid)/cmdline"))?.contains(victim.folder.path) ?? false
        }
    }

    /// The source runs as if nothing had happened, and there is no copy.
    private func expectUntouched(_ victim: MovableVictim, since before: ProcessSnapshot) throws {
        try waitUntilUnchanged(victim.pid, since: before)
        try wait(for: "the copy to be gone") { try copies(of: victim).isEmpty }
        let verdict = try victim.verdict()
        #expect(verdict == "ok carried")
        #expect(try victim.process.waitForExit() == .exited(0))
    }

    @Test func restorerKilledBeforeTheGrantLetsTheProcessRunOn() throws {
        try withMovableVictim("carried", ["large", "locks"]) { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            // With --eager 256 MiB travel between the freeze and the grant.
            var options = Move.Options()
            options.destination.append("--eager")
            let move = try Move(of: victim.pid, options)
            try move.serverEvents.wait(for: "frozen")
            move.restorer.signal(9)
            #expect(try move.server.waitForExit() == .exited(75), "\(move.server.report())")
            try move.serverEvents.finish()
            try #require(!move.serverEvents.names.contains("granted"), "the kill came too late")
            try expectUntouched(victim, since: before)
        }
    }

    @Test func pageServerKilledBeforeTheGrantLetsTheProcessRunOn() throws {
        try withMovableVictim("carried", ["large", "threads"]) { victim in
            var options = Move.Options()
            options.destination.append("--eager")
            let move = try Move(of: victim.pid, options)
            try move.serverEvents.wait(for: "frozen")
            move.server.signal(9)
            try move.serverEvents.finish()
            try #require(!move.serverEvents.names.contains("granted"), "the kill came too late")
            #expect(try move.restorer.waitForExit() == .exited(75), "\(move.restorer.report())")
            try wait(for: "the copy to be gone") { try copies(of: victim).isEmpty }
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
        }
    }

    @Test func takenProcessIDIsNamedAndTheProcessRunsOn() throws {
        try withMovableVictim("carried", ["heap"]) { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            var options = Move.Options()
            options.destination = []
            let move = try Move(of: victim.pid, options)
            let ending = try move.restorer.waitForExit()
            #expect(ending != .exited(0))
            #expect(move.restorer.errors.contains("\(victim.pid)"), "\(move.restorer.report())")
            // Nothing is wrong with the process: it can be offered again.
            #expect(try move.server.waitForExit() == .exited(75), "\(move.server.report())")
            try expectUntouched(victim, since: before)
        }
    }

    @Test func refusedCertificateChangesNothing() throws {
        try withMovableVictim("carried", ["heap"]) { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            let server = try Move.startServer(victim.pid)
            let events = StatusEvents(of: server)
            let port = try events.wait(for: "listening")["port"]?.integer ?? 0
            var options = Move.Options()
            options.clientCertificates = try Certificates.foreignDirectory()
            let stranger = try Move.startRestorer(port, options)
            #expect(try stranger.waitForExit() == .exited(76), "\(stranger.report())")
            #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
            #expect(try server.pollForExit() == nil)
            // The right one is served all the same.
            let restorer = try Move.startRestorer(port)
            let restorerEvents = StatusEvents(of: restorer)
            try restorerEvents.wait(for: "running")
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(try restorer.waitForExit() == .exited(0), "\(restorer.report())")
        }
    }

    @Test func nameThatIsNotAllowedIsRefused() throws {
        try withMovableVictim("carried", ["heap"]) { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            let server = try Move.startServer(victim.pid, ["--allow", "somebody.example"])
            let port = try StatusEvents(of: server).wait(for: "listening")["port"]?.integer ?? 0
            let restorer = try Move.startRestorer(port)
            #expect(try restorer.waitForExit() == .exited(76), "\(restorer.report())")
            #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
            server.signal(15)
            try server.waitForExit()
            try expectUntouched(victim, since: before)
        }
    }

    @Test func wrongServerNameIsRefused() throws {
        try withMovableVictim("carried", ["heap"]) { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            let server = try Move.startServer(victim.pid)
            let port = try StatusEvents(of: server).wait(for: "listening")["port"]?.integer ?? 0
            var options = Move.Options()
            options.destination += ["--server-name", "somebody.example"]
            let restorer = try Move.startRestorer(port, options)
            #expect(try restorer.waitForExit() == .exited(76), "\(restorer.report())")
            server.signal(15)
            try server.waitForExit()
            try expectUntouched(victim, since: before)
        }
    }

    @Test func restorerAndKeeperKilledAfterTheGrantLeaveNoZerosAndAFrozenSource() throws {
        try withMovableVictim("carried", ["large", "anonymous"]) { victim in
            let move = try Move(of: victim.pid)
            let copy = try move.waitUntilRunning()
            try victim.tell("go")
            move.killRestorerAndKeeper()
            try move.restorer.waitForExit()
            // The guardian ends the copy rather than let it read zeros.
            try wait(for: "the copy to end") { !processIsAlive(copy) }
            #expect(!victim.lines.contains { $0.hasPrefix("wrong") }, "\(victim.lines)")
            if victim.lines.contains(where: { $0.hasPrefix("ok") }) {
                // Everything had come before the kill: nothing is left to show.
                return
            }
            // The source is frozen, with its page server and without it.
            #expect(try "tT".contains(#require(processState(victim.pid))))
            move.server.signal(9)
            try move.server.waitForExit()
            try wait(for: "the source to be stopped") { processState(victim.pid) == "T" }
            #expect(victim.lines == ["ready"])
        }
    }

    @Test func pageServerKilledAfterTheGrantLeavesNoZerosAndAFrozenSource() throws {
        try withMovableVictim("carried", ["large", "anonymous"]) { victim in
            let move = try Move(of: victim.pid)
            let copy = try move.waitUntilRunning()
            move.server.signal(9)
            try move.server.waitForExit()
            try wait(for: "the source to be stopped") { processState(victim.pid).map { "TZX".contains($0) } ?? true }
            try victim.tell("go")
            // The copy waits for its pages, or has ended, or had them all; in no case it reads zeros.
            try wait(for: "the copy to wait or to end", within: .seconds(3)) {
                !processIsAlive(copy) || victim.lines.count > 1 || processState(copy) == "S"
            }
            #expect(!victim.lines.contains { $0.hasPrefix("wrong") }, "\(victim.lines)")
            #expect(processState(victim.pid) != "R")
        }
    }
}
