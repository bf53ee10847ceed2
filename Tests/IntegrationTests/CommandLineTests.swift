// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// Options, status lines, statistics and exit codes are what INTERFACE.md promises to users' scripts.
@Suite(
    .serialized,
    .timeLimit(.minutes(3 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct CommandLineTests {
    @Test func attachedRestorerPassesSignalsOnAndExitsWithTheStatusOfTheProcess() throws {
        let folder = try Scratch("signals")
        let output = folder.file("out")
        let options = TestProcess.Options(output: .file(output), errors: .file(folder.file("err")))
        try withProcess(BuiltProduct.victim, ["signals"], options: options) { victim in
            func said(_ line: String) -> Bool { ((try? readText(output)) ?? "").contains(line + "\n") }
            try wait(for: "ready") { said("ready") }
            let move = try Move(of: victim.pid)
            try move.waitUntilRunning()
            for number in [SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH] {
                move.restorer.signal(number)
                try wait(for: "signal \(number) to arrive") { said("signal \(number)") }
            }
            move.restorer.signal(SIGTERM)
            #expect(try move.restorer.waitForExit() == .exited(23), "\(move.restorer.report())")
        }
    }

    @Test func attachedRestorerExitsWith128AndTheSignalThatEndedTheProcess() throws {
        try withMovableVictim("crash") { victim in
            let move = try Move(of: victim.pid)
            try move.waitUntilRunning()
            try victim.tell("go")
            #expect(try move.restorer.waitForExit() == .exited(128 + SIGABRT), "\(move.restorer.report())")
            try move.restorerEvents.finish()
            #expect(move.restorerEvents.first("exited")?["status"]?.integer == Int(128 + SIGABRT))
        }
    }

    @Test func pipesOfTheProcessBecomeThoseOfTheRestorer() throws {
        try withProcess(BuiltProduct.victim, ["echo"], options: .init(input: .pipe)) { victim in
            try victim.waitForLine("ready")
            try victim.input?.write("one\n")
            try victim.waitForLine("got one")
            var options = Move.Options()
            options.input = .pipe
            options.output = .pipe
            let move = try Move(of: victim.pid, options)
            try move.waitUntilRunning()
            try move.restorer.input?.write("two\n")
            try move.restorer.waitForLine("got two")
            move.restorer.input?.finish()
            try move.restorer.waitForLine("end")
            #expect(try move.restorer.waitForExit() == .exited(0), "\(move.restorer.report())")
        }
    }

    @Test func detachedRestorerReturnsAndTheProcessRunsOn() throws {
        try withMovableVictim("carried", ["anonymous"]) { victim in
            var options = Move.Options()
            let copyFile = victim.folder.file("copy.pid")
            options.destination += ["--detach", "--restored-pidfile", copyFile]
            options.destination += ["--pidfile", victim.folder.file("daemon.pid")]
            let move = try Move(of: victim.pid, options)
            #expect(try move.restorer.waitForExit() == .exited(0), "\(move.restorer.report())")
            let copy = try move.waitUntilRunning()
            #expect(try readText(copyFile) == "\(copy)\n")
            #expect(processIsAlive(copy))
            try move.waitUntilComplete()
            let text = (try? readText(victim.folder.file("daemon.pid"))) ?? ""
            let daemon = try #require(Int32(text.filter(\.isNumber)))
            try wait(for: "the daemon to end") { !processIsAlive(daemon) }
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            try wait(for: "the copy to end") { !processIsAlive(copy) }
        }
    }

    @Test func eagerRestoreNeedsNoPageAfterwards() throws {
        try withMovableVictim("carried", ["anonymous", "shared-memory"]) { victim in
            let file = victim.folder.file("stats")
            var options = Move.Options()
            options.destination += ["--eager", "--stats", file]
            let move = try Move(of: victim.pid, options)
            try move.waitUntilRunning()
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0), "\(move.restorer.report())")
            let statistics = try JSONValue(parsing: readText(file))
            #expect(statistics["pages"]?["demanded"]?.integer == 0)
            let pages = try #require(statistics["pages"])
            let early = (pages["eager"]?.integer ?? 0) + (pages["prefetched"]?.integer ?? 0)
            #expect(early >= 4096, "\(pages)")
        }
    }

    @Test func completedSourceCanStayStopped() throws {
        try withMovableVictim("carried", ["anonymous"]) { victim in
            var options = Move.Options()
            options.source = ["--on-complete", "stop"]
            let move = try Move(of: victim.pid, options)
            try move.waitUntilRunning()
            try move.waitUntilComplete()
            try wait(for: "the source to be stopped") { processState(victim.pid) == "T" }
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0))
            #expect(processState(victim.pid) == "T")
            #expect(victim.lines.filter { $0.hasPrefix("ok") }.count == 1)
            // An operator may let it go: it is whole.
            victim.process.signal(SIGCONT)
            #expect(try victim.process.waitForExit() == .exited(0))
        }
    }

    @Test func completedSourceCanContinueAsAClone() throws {
        try withMovableVictim("carried", ["anonymous", "threads", "locks"]) { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            var options = Move.Options()
            options.source = ["--on-complete", "continue"]
            let move = try Move(of: victim.pid, options)
            try move.waitUntilRunning()
            try move.waitUntilComplete()
            try waitUntilUnchanged(victim.pid, since: before)
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0))
            #expect(try victim.process.waitForExit() == .exited(0))
            #expect(victim.lines.filter { $0 == "ok carried" }.count == 2, "\(victim.lines)")
        }
    }

    @Test func statusLinesAndStatisticsHaveTheirKeys() throws {
        try withMovableVictim("carried", ["anonymous"]) { victim in
            let sourceFile = victim.folder.file("source.json")
            let destinationFile = victim.folder.file("destination.json")
            var options = Move.Options()
            options.source = ["--stats", sourceFile]
            options.destination += ["--stats", destinationFile]
            let move = try Move(of: victim.pid, options)
            try move.waitUntilRunning()
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0))
            #expect(try move.server.waitForExit() == .exited(0))
            try move.serverEvents.finish()
            try move.restorerEvents.finish()
            #expect(move.serverEvents.names == ["listening", "connected", "frozen", "granted", "complete"])
            #expect(
                move.restorerEvents.names.filter { $0 != "exited" }
                    == ["connected", "running", "resident", "complete"]
            )
            #expect(move.restorerEvents.first("exited")?["status"]?.integer == 0)
            for event in move.serverEvents.seen + move.restorerEvents.seen {
                #expect(event["time"]?.number != nil, "\(event)")
            }
            let pages = move.restorerEvents.first("complete")?["pages"]?.integer
            #expect(pages == move.serverEvents.first("complete")?["pages"]?.integer)
            #expect(
                move.restorerEvents.first("complete")?["digest"]?.string
                    == move.serverEvents.first("complete")?["digest"]?.string
            )
            try expectKeys(of: destinationFile)
            try expectKeys(of: sourceFile)
        }
    }

    private func expectKeys(of path: String) throws {
        let statistics = try JSONValue(parsing: readText(path))
        for name in ["pid", "result", "pause", "timeToResident", "reconnects", "tracker", "tls", "preCopyRounds"] {
            #expect(statistics[name] != nil, "\(name) is not in \(statistics)")
        }
        for name in ["total", "zero", "preCopied", "demanded", "prefetched", "eager", "stale"] {
            #expect(statistics["pages"]?[name]?.integer != nil, "pages.\(name)")
        }
        for name in ["received", "sent"] {
            #expect(statistics["bytes"]?[name]?.integer != nil, "bytes.\(name)")
        }
        for name in ["count", "stallTotal", "stallUnion", "latency"] {
            #expect(statistics["faults"]?[name] != nil, "faults.\(name)")
        }
        #expect(statistics["tls"]?["version"]?.string?.contains("1.3") == true)
    }

    @Test func missingProcessIsExitCode66() throws {
        // Above the kernel's largest pid.
        let server = try Move.startServer(4_194_305)
        #expect(try server.waitForExit() == .exited(66), "\(server.report())")
    }
}
