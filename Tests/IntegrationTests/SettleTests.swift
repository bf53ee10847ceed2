// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// What an operator can read and decide when a page server has died behind the grant.
@Suite(
    .serialized,
    .timeLimit(.minutes(3 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct SettleTests {
    private static func thaw(_ arguments: [String]) throws -> (output: String, errors: String, ending: Ending) {
        try withProcess(BuiltProduct.thaw, arguments) { process in
            let lines = try process.output?.rest() ?? []
            let ending = try process.waitForExit()
            return (lines.joined(separator: "\n"), process.errors, ending)
        }
    }

    private static func sessions(_ folder: String) throws -> [JSONValue] {
        let status = try thaw(["status", "--record", folder, "--format", "json"])
        guard status.ending == .exited(0), let list = try JSONValue(parsing: status.output).array else {
            throw TestFailure("\(status)")
        }
        return list
    }

    /// A victim whose page server was killed behind the grant, and whose copy and restorer are gone.
    private func withLeftOver(_ body: (MovableVictim, String) throws -> Void) throws {
        try withMovableVictim("carried", ["large", "anonymous"]) { victim in
            let folder = victim.folder.file("records")
            var options = Move.Options()
            options.source = ["--record", folder]
            let move = try Move(of: victim.pid, options)
            let copy = try move.waitUntilRunning()
            let served = try Self.sessions(folder)
            #expect(served.first?["state"]?.string == "granted")
            #expect(served.first?["pageServer"]?.integer == Int(move.server.pid))
            let early = try Self.thaw(["settle", "\(victim.pid)", "--drop", "--record", folder])
            #expect(early.ending == .exited(78), "\(early)")
            move.server.signal(9)
            try move.server.waitForExit()
            move.killRestorerAndKeeper()
            try move.restorer.waitForExit()
            try wait(for: "the copy to end") { !processIsAlive(copy) }
            try wait(for: "the stop") { processState(victim.pid) == "T" }
            let left = try Self.sessions(folder)
            #expect(left.count == 1)
            #expect(left.first?["pid"]?.integer == Int(victim.pid))
            #expect(left.first?["state"]?.string == "granted")
            #expect(left.first?["process"]?.string == "stopped")
            #expect(left.first?["pageServer"] == .null)
            try body(victim, folder)
            #expect(try Self.sessions(folder).isEmpty)
        }
    }

    @Test func aProcessThatIsLeftRunsOnOnlyByForce() throws {
        try withLeftOver { victim, folder in
            let refused = try Self.thaw(["settle", "\(victim.pid)", "--thaw", "--record", folder])
            #expect(refused.ending == .exited(78))
            #expect(refused.errors.contains("a copy may run"), "\(refused)")
            #expect(processState(victim.pid) == "T")
            // It is not offered again either.
            let again = try Move.startServer(victim.pid, ["--record", folder])
            #expect(try again.waitForExit() == .exited(78), "\(again.report())")
            let session = try #require(try Self.sessions(folder).first?["session"]?.string)
            let forced = try Self.thaw(["settle", session, "--thaw", "--force", "--record", folder])
            #expect(forced.ending == .exited(0), "\(forced)")
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
        }
    }

    @Test func aProcessThatIsLeftCanBeEnded() throws {
        try withLeftOver { victim, folder in
            let dropped = try Self.thaw(["settle", "\(victim.pid)", "--drop", "--record", folder])
            #expect(dropped.ending == .exited(0), "\(dropped)")
            #expect(try victim.process.waitForExit() == .signaled(9))
        }
    }

    /// The number has come to mean another process.
    @Test func anotherProcessOfTheSameNumberIsNeverTouched() throws {
        try withLeftOver { victim, folder in
            let path = "\(folder)/\(victim.pid).session"
            let text = try readText(path)
            let lines = text.split(separator: "\n").map { $0.hasPrefix("start ") ? "start 1" : String($0) }
            try writeFile(path, lines.joined(separator: "\n") + "\n")
            #expect(try Self.sessions(folder).first?["process"]?.string == "gone")
            let thawed = try Self.thaw(["settle", "\(victim.pid)", "--thaw", "--force", "--record", folder])
            #expect(thawed.ending == .exited(66), "\(thawed)")
            let dropped = try Self.thaw(["settle", "\(victim.pid)", "--drop", "--record", folder])
            #expect(dropped.ending == .exited(0), "\(dropped)")
            #expect(processState(victim.pid) == "T")
        }
    }

    @Test func aMoveThatIsUndoneLeavesNoRecordAndOneThatIsCompleteSaysSo() throws {
        try withMovableVictim("carried", ["heap"]) { victim in
            let folder = victim.folder.file("records")
            var options = Move.Options()
            options.source = ["--record", folder]
            options.destination = []
            let taken = try Move(of: victim.pid, options)
            #expect(try taken.server.waitForExit() == .exited(75))
            #expect(try Self.sessions(folder).isEmpty)
            options.destination = ["--new-pid-namespace"]
            let move = try Move(of: victim.pid, options)
            try move.waitUntilRunning()
            try move.waitUntilComplete()
            let complete = try Self.sessions(folder)
            #expect(complete.first?["state"]?.string == "complete")
            #expect(complete.first?["process"]?.string == "gone")
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
        }
    }

    /// Whoever asked for a clone has settled that two run.
    @Test func aCloneMayBeMadeAgain() throws {
        try withMovableVictim("carried", ["heap"]) { victim in
            let folder = victim.folder.file("records")
            var options = Move.Options()
            options.source = ["--record", folder, "--on-complete", "continue"]
            for _ in 1...2 {
                let move = try Move(of: victim.pid, options)
                let copy = try move.waitUntilRunning()
                try move.waitUntilComplete()
                kill(copy, SIGKILL)
                #expect(try Self.sessions(folder).isEmpty)
            }
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
        }
    }

    @Test func whatIsNotRecordedIsNotFound() throws {
        let scratch = try Scratch("settle")
        #expect(try Self.sessions(scratch.file("none")).isEmpty)
        try writeFile(scratch.file("7.session"), "thaw-session 1\nstate granted\npid 0\n")
        #expect(try Self.sessions(scratch.path).isEmpty)
        let run = try Self.thaw(["settle", "7", "--drop", "--record", scratch.path])
        #expect(run.ending == .exited(66))
        #expect(try Self.thaw(["settle", "7", "--record", scratch.path]).ending == .exited(64))
    }
}
