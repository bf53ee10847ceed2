// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// `thaw track` measures what a process writes, and ends as it promises.
@Suite(
    .serialized,
    .timeLimit(.minutes(4 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct TrackTests {
    /// Threads, pages a second of all together, tracker.
    @Test(arguments: [(1, 2000.0, "wp-async"), (1, 20_000, "wp-async"), (32, 8000, "wp-async"), (4, 4000, "wp-sync")])
    func aWriterOfAKnownRateIsMeasured(threads: Int, rate: Double, tracker: String) throws {
        try withVictim("paced", ["\(threads)", "\(65_536 / threads)", "\(rate)"]) { victim in
            let tracking = try Tracking(
                of: victim.pid,
                ["--interval", "0.5", "--rounds", "6", "--tracker", tracker]
            )
            #expect(try tracking.finish() == .exited(0), "\(tracking.command.report())")
            #expect(tracking.rounds.count == 6)
            let measured = try #require(tracking.end?["bytesPerSecond"]?["average"]?.number)
            // Besides its pages it writes to its stacks, a few pages in each interval.
            let expected = rate * 4096
            #expect(measured > expected * 0.75 && measured < expected * 1.33 + Double(threads * 4 * 4096))
            for round in tracking.rounds {
                let seconds = round["seconds"]?.number ?? 0
                #expect(seconds > 0.2, "\(round)")
                #expect(round["pages"]?["present"]?.number.map { $0 >= 65_536 } ?? false)
            }
        }
    }

    @Test func pagesThatAreWrittenAllTheTimeCountOnce() throws {
        try withWriters(2, pages: 1000) { victim in
            let tracking = try Tracking(of: victim.pid, ["--interval", "0.5", "--rounds", "3", "-v"])
            #expect(try tracking.finish() == .exited(0), "\(tracking.command.report())")
            for round in tracking.rounds {
                let written = round["pages"]?["written"]?.integer ?? 0
                #expect((2000..<2100).contains(written), "\(round)")
                let mappings = round["mappings"]?.array ?? []
                #expect(mappings.reduce(0) { $0 + ($1["written"]?.integer ?? 0) } == written)
            }
            // One gibibyte a second.
            let pause = tracking.rounds.first?["pause"]?["interval"]?.number ?? 0
            #expect(pause > 0.0076 && pause < 0.0081)
        }
    }

    @Test func withoutATrackerEverythingCountsAndNothingIsTouched() throws {
        try withVictim("paced", ["1", "1000", "1"]) { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            let tracking = try Tracking(of: victim.pid, ["--interval", "0.1", "--rounds", "3", "--tracker", "none"])
            try tracking.wait(for: "round")
            #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
            #expect(try tracking.finish() == .exited(0), "\(tracking.command.report())")
            #expect(tracking.seen.first?["tracker"]?.string == "none")
            for round in tracking.rounds {
                let written = round["pages"]?["written"]?.integer ?? 0
                #expect(
                    written >= 1000 && written == round["pages"]?["present"]?.integer && round["percent"]?.number == 100
                )
            }
        }
    }

    @Test(arguments: [(SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGHUP, "SIGHUP")])
    func aSignalEndsItWithASummary(number: Int32, name: String) throws {
        try withVictim("paced", ["1", "1000", "1000"]) { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            let tracking = try Tracking(of: victim.pid, ["--interval", "0.1"])
            try tracking.wait(for: "round")
            // The detector sees what must be gone in the end.
            #expect(try ProcessSnapshot(of: victim.pid).changes(since: before).contains { $0.contains(" uw") })
            tracking.command.signal(number)
            #expect(try tracking.finish() == .exited(0), "\(tracking.command.report())")
            #expect(tracking.end?["reason"]?.string == "signal" && tracking.end?["message"]?.string == name)
            #expect(tracking.end?["rounds"]?.integer == tracking.rounds.count)
            #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
        }
    }

    @Test(arguments: ["wp-async", "wp-sync"])
    func killedItLeavesNothing(tracker: String) throws {
        try withWriters(4, pages: 500) { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            let tracking = try Tracking(of: victim.pid, ["--interval", "0.05", "--tracker", tracker])
            for _ in 0..<3 { try tracking.wait(for: "round") }
            #expect(try ProcessSnapshot(of: victim.pid).changes(since: before).contains { $0.contains(" uw") })
            tracking.command.signal(SIGKILL)
            #expect(try tracking.finish() == .signaled(SIGKILL))
            try waitUntilUnchanged(victim.pid, since: before)
            try waitForTurns(of: victim)
        }
    }

    @Test func theEndOfTheProcessEndsIt() throws {
        let victim = try TestProcess(BuiltProduct.victim, ["paced"])
        defer { victim.end() }
        try victim.waitForLine("ready")
        let tracking = try Tracking(of: victim.pid, ["--interval", "0.1"])
        try tracking.wait(for: "round")
        victim.end()
        #expect(try tracking.finish() == .exited(0), "\(tracking.command.report())")
        #expect(tracking.end?["reason"]?.string == "process")
        #expect(tracking.end?["message"]?.string == "process \(victim.pid) has ended")
    }

    @Test func theEndOfTheProcessBeforeAnyRoundIsExitCode66() throws {
        let victim = try TestProcess(BuiltProduct.victim, ["paced"])
        defer { victim.end() }
        try victim.waitForLine("ready")
        let tracking = try Tracking(of: victim.pid, ["--interval", "600"])
        try tracking.wait(for: "tracking")
        victim.end()
        #expect(try tracking.finish() == .exited(66))
        #expect(tracking.end?["rounds"]?.integer == 0)
        #expect(tracking.command.errors.contains("process \(victim.pid) has ended"))
    }

    @Test func anotherProgramInTheProcessEndsIt() throws {
        let options = TestProcess.Options(input: .pipe)
        try withProcess(BuiltProduct.victim, ["tracked-commands"], options: options) { victim in
            try victim.waitForLine("ready")
            let tracking = try Tracking(of: victim.pid, ["--interval", "0.1"])
            try tracking.wait(for: "round")
            try victim.input?.write("exec\n")
            try victim.waitForLine("ready")
            #expect(try tracking.finish() == .exited(0), "\(tracking.command.report())")
            #expect(tracking.end?["message"]?.string == "process \(victim.pid) has executed another program")
            #expect(try !readText("/proc/\(victim.pid)/smaps").contains(" uw"))
        }
    }

    @Test func nobodyWhoReadsEndsIt() throws {
        try withVictim("paced") { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            let words = "'\(BuiltProduct.thaw)' track -t \(victim.pid) --interval 0.05 | head -n 4"
            let run = try runToEnd("/bin/sh", ["-c", words])
            #expect(run.output.split(separator: "\n").count == 4 && run.ending == .exited(0), "\(run)")
            try waitUntilUnchanged(victim.pid, since: before)
        }
    }

    @Test(arguments: [("C.UTF-8", true), ("C", false)])
    func aTerminalShowsBlocksWhenItsUserHasChosenUTF8(locale: String, blocks: Bool) throws {
        try withWriters(1, pages: 1000) { victim in
            let words =
                "LC_ALL=\(locale) TERM=xterm '\(BuiltProduct.thaw)' track -t \(victim.pid) --interval 0.2 --rounds 2"
            let run = try runToEnd("/usr/bin/script", ["-qec", words, "/dev/null"])
            #expect(run.ending == .exited(0), "\(run)")
            #expect(run.output.contains("█") == blocks && run.output.contains("##") != blocks, "\(run.output)")
            let file = try runToEnd("/bin/sh", ["-c", words])
            #expect(file.output.utf8.allSatisfy { $0 < 0x80 } && file.output.contains("##"), "\(file.output)")
        }
    }

    @Test func aMovedProcessCanBeTrackedOnceItIsResident() throws {
        try withMovableVictim("carried", ["anonymous"]) { victim in
            let move = try Move(of: victim.pid)
            let copy = try move.waitUntilRunning()
            try move.waitUntilComplete()
            let tracking = try Tracking(of: copy, ["--interval", "0.1", "--rounds", "2"])
            #expect(try tracking.finish() == .exited(0), "\(tracking.command.report())")
            #expect(tracking.states == ["tracking", "round", "round", "ended"])
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
        }
    }

    /// Threads that write to all their pages without a pause.
    private func withWriters(_ threads: Int, pages: Int, _ body: (TestProcess) throws -> Void) throws {
        let arguments = ["tracked-writers", "\(threads)", "\(pages)"]
        try withProcess(BuiltProduct.victim, arguments, options: .init(input: .pipe)) { victim in
            try victim.waitForLine("ready")
            try waitForTurns(of: victim)
            try body(victim)
        }
    }

    /// Waits until each thread has gone on, and finds in its pages what it wrote.
    private func waitForTurns(of writers: TestProcess) throws {
        try writers.input?.write("mark\n")
        _ = try writers.readLine()
        try wait(for: "the writers to go on") {
            try writers.input?.write("\n")
            let words = try writers.readLine().split(separator: " ")
            guard words.count == 4, words[3] == "0" else { throw TestFailure("the writers say \(words)") }
            return Int(words[1]).map { $0 > 2 } ?? false
        }
    }
}
