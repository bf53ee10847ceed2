// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// A restorer that dies while pages are owed: another one takes over, and every byte is right.
@Suite(
    .serialized,
    .timeLimit(.minutes(5 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct KeeperTests {
    /// A move of which some pages have come and the rest does not before `release`.
    private static func stalled(_ arguments: [String] = ["--new-pid-namespace"], after bytes: UInt64 = 4 << 20)
        -> Move.Options
    {
        var options = Move.Options()
        options.destination = arguments
        options.stallsAfter = bytes
        return options
    }

    /// Waits until the copy runs and nothing comes any more.
    private func waitUntilStalled(_ move: Move) throws -> Int32 {
        let copy = try move.waitUntilRunning()
        let proxy = try #require(move.proxy)
        try wait(for: "the stall") { proxy.cuts > 0 }
        return copy
    }

    private func finish(_ move: Move, _ victim: MovableVictim, _ expected: String) throws {
        try #require(move.proxy).cutAll()
        try move.restorerEvents.wait(for: "resumed")
        try move.waitUntilComplete()
        let verdict = try victim.verdict()
        #expect(verdict == expected)
        #expect(try move.server.waitForExit() == .exited(0), "\(move.server.report())")
    }

    @Test(arguments: [[], ["--detach"], ["--track"]])
    func anotherRestorerBringsTheRest(further: [String]) throws {
        let arguments = ["--new-pid-namespace"] + further
        try withMovableVictim("carried", ["anonymous", "heap", "fork", "remap", "stack"]) { victim in
            let move = try Move(of: victim.pid, Self.stalled(arguments))
            let copy = try waitUntilStalled(move)
            if arguments.contains("--detach") { try move.restorer.waitForExit() }
            let restorer = try Self.restorers(over: copy).first ?? move.restorer.pid
            let crew = try Crew(of: restorer)
            kill(restorer, SIGKILL)
            try move.restorerEvents.wait(for: "taken-over")
            #expect(processIsAlive(copy))
            try finish(move, victim, "ok carried")
            try crew.waitUntilGone()
        }
    }

    /// Restorers that have a copy as their child, whether attached or daemons.
    private static func restorers(over copy: Int32) throws -> [Int32] {
        var pid = copy
        for _ in 0..<3 {
            guard let stat = try? readText("/proc/\(pid)/stat"),
                let parent = stat.split(separator: ")").last?.split(separator: " ").dropFirst().first.flatMap({
                    Int32($0)
                })
            else { return [] }
            if (try? readText("/proc/\(parent)/comm")) == "thaw\n" { return [parent] }
            pid = parent
        }
        return []
    }

    /// Whoever dies, one at a time, is replaced, and one dies after the other.
    @Test func everyHelperMayDie() throws {
        try withMovableVictim("carried", ["anonymous", "heap"]) { victim in
            let move = try Move(of: victim.pid, Self.stalled())
            let copy = try waitUntilStalled(move)
            let crew = try Crew(of: move.restorer.pid)
            let keeper = try #require(try crew.keeper())
            kill(keeper, SIGKILL)
            try wait(for: "another keeper") { try crew.keeper(otherThan: [keeper]) != nil }
            let guardian = try #require(try Crew.guardian(of: move.restorer.pid))
            kill(guardian, SIGKILL)
            try wait(for: "another guardian") { try (Crew.guardian(of: move.restorer.pid) ?? guardian) != guardian }
            move.restorer.signal(9)
            try move.restorerEvents.wait(for: "taken-over")
            let second = try #require(try crew.restorer())
            // The one that has taken over, again, as soon as it has a keeper of its own.
            kill(second, SIGKILL)
            try move.restorerEvents.wait(for: "taken-over", after: 1)
            let third = try #require(try crew.restorer(otherThan: [second]))
            let last = try #require(try crew.keeper())
            kill(last, SIGKILL)
            try wait(for: "another keeper") { try crew.keeper(otherThan: [last]) != nil }
            #expect(third != second && processIsAlive(copy))
            try finish(move, victim, "ok carried")
            try crew.waitUntilGone()
        }
    }

    /// A process that the dead restorer has stopped for its lost source goes on with the one that took over.
    @Test func aStoppedProcessIsContinuedByTheNextOne() throws {
        try withMovableVictim("carried", ["anonymous", "heap"]) { victim in
            let move = try Move(of: victim.pid, Self.stalled(["--new-pid-namespace", "--loss-timeout", "1"]))
            let copy = try waitUntilStalled(move)
            let proxy = try #require(move.proxy)
            proxy.refuse(true)
            proxy.cutAll()
            try wait(for: "the stop") { processState(copy) == "T" }
            move.restorer.signal(9)
            try move.restorerEvents.wait(for: "taken-over")
            #expect(processState(copy) == "T")
            proxy.refuse(false)
            try move.restorerEvents.wait(for: "resumed")
            try wait(for: "it to go on") { processState(copy) != "T" }
            try finish(move, victim, "ok carried")
        }
    }

    /// Pages in memory of a process.
    private static func residentPages(_ pid: Int32) throws -> Int {
        try readText("/proc/\(pid)/statm").split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    }

    /// It is there without the source, which is out of reach until all of it has been installed.
    @Test func whatWasPreCopiedIsKeptForTheNextOne() throws {
        try withMovableVictim("carried", ["large", "heap"]) { victim in
            // Pages of the large mapping, which nobody writes.
            let large = 65536
            var options = Move.Options()
            options.preCopies = true
            options.isProxied = true
            let move = try Move(of: victim.pid, options)
            let copy = try move.waitUntilRunning()
            let proxy = try #require(move.proxy)
            let crew = try Crew(of: move.restorer.pid)
            try wait(for: "some of it") { try Self.residentPages(copy) > large / 5 }
            proxy.refuse(true)
            proxy.cutAll()
            move.restorer.signal(9)
            #expect(try Self.residentPages(copy) < large, "too late")
            try move.restorerEvents.wait(for: "taken-over")
            try wait(for: "all of it") { try Self.residentPages(copy) > large }
            #expect(!move.restorerEvents.names.contains("resumed"))
            let carried = proxy.carried
            proxy.refuse(false)
            try move.restorerEvents.wait(for: "resumed")
            try move.waitUntilComplete()
            #expect(proxy.carried - carried < 64 << 20, "it was fetched again")
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(try move.server.waitForExit() == .exited(0), "\(move.server.report())")
            try crew.waitUntilGone()
        }
    }

    /// With nobody left to bring its pages the process is killed: it never reads zeros, and its source can be let go.
    @Test func withTheKeeperDeadAsWellTheProcessIsKilled() throws {
        try withMovableVictim("carried", ["anonymous", "heap"]) { victim in
            let move = try Move(of: victim.pid, Self.stalled())
            let copy = try waitUntilStalled(move)
            let crew = try Crew(of: move.restorer.pid)
            move.killRestorerAndKeeper()
            try wait(for: "the copy to end") { !processIsAlive(copy) }
            try crew.waitUntilGone()
            #expect(!victim.lines.contains { $0.hasPrefix("wrong") || $0.hasPrefix("ok") }, "\(victim.lines)")
            #expect(try "tT".contains(#require(processState(victim.pid))))
        }
    }

    /// What could not be noted another one would not know: it is said, nobody takes over, and zeros are never read.
    @Test func withAFullJournalTheProcessIsKilledWithItsRestorer() throws {
        try withMovableVictim("carried", ["anonymous", "heap"]) { victim in
            let move = try Move(of: victim.pid, Self.stalled())
            let copy = try waitUntilStalled(move)
            let proxy = try #require(move.proxy)
            let crew = try Crew(of: move.restorer.pid)
            try fillJournal(of: move.restorer.pid)
            proxy.plan(.stall, at: proxy.carried + 2 << 20)
            proxy.cutAll()
            try move.restorerEvents.wait(for: "resumed")
            try wait(for: "the message") { move.restorer.report().contains("no room to note") }
            try #require(!move.restorerEvents.names.contains("resident"), "too late")
            kill(move.restorer.pid, SIGKILL)
            try wait(for: "the copy to end") { !processIsAlive(copy) }
            try crew.waitUntilGone()
            #expect(!move.restorerEvents.names.contains("taken-over"))
            #expect(!victim.lines.contains { $0.hasPrefix("wrong") || $0.hasPrefix("ok") }, "\(victim.lines)")
            #expect(try "tT".contains(#require(processState(victim.pid))))
        }
    }

    /// Says in the journal of a restorer that there is room for no record more.
    private func fillJournal(of restorer: Int32) throws {
        let folder = "/proc/\(restorer)/fd"
        let journal = try #require(
            try namesInFolder(folder).map { "\(folder)/\($0)" }.first {
                (try? readLink($0))?.hasPrefix("/memfd:thaw-journal") == true
            }
        )
        // SAFETY: a NUL-terminated copy for the time of the call.
        let file = unsafe open(journal, O_RDWR | O_CLOEXEC)
        defer { close(file) }
        // The count of records follows mark and size (keeper.c): as many as fit into 1 GiB behind 8 KiB, of 40 bytes each.
        var count = UInt64((1 << 30) - 8192) / 40
        // SAFETY: eight bytes of a value that lives here.
        let written = unsafe pwrite(file, &count, 8, 16)
        #expect(written == 8)
    }

    /// Who is there, what both sides have said, and what each thread of the copy waits for.
    private static func circumstances(of move: Move) -> String {
        let copy = move.copy ?? 0
        let threads = ((try? namesInFolder("/proc/\(copy)/task")) ?? []).map { thread in
            ["wchan", "syscall"].reduce("\(thread):") { text, name in
                text + " " + ((try? readText("/proc/\(copy)/task/\(thread)/\(name)")) ?? "?")
            }
        }
        let present = (try? restorers(over: copy)) ?? []
        return """
            restorers \(present), told \(move.restorerEvents.names)
            restorer: \(move.restorer.report())
            page server: \(move.server.report())
            threads: \(threads)
            """
    }

    /// A process that changes its address space all the time, and restorers that die at any moment.
    @Test(arguments: [UInt64(1), UInt64.random(in: 2..<1 << 32)])
    func everyByteIsRightWhateverTheProcessDoesMeanwhile(seed: UInt64) throws {
        try withMovableVictim("churn", ["\(seed % 1000)", "3", "6"]) { victim in
            var random = SeededGenerator(seed: seed)
            let move = try Move(of: victim.pid)
            try move.waitUntilRunning()
            let crew = try Crew(of: move.restorer.pid)
            var dead: [Int32] = []
            for number in 0..<4 {
                usleep(UInt32.random(in: 0..<30_000, using: &random))
                guard let restorer = try crew.restorer(otherThan: dead),
                    !move.restorerEvents.names.contains("resident")
                else { break }
                kill(restorer, SIGKILL)
                dead.append(restorer)
                _ = try? move.restorerEvents.wait(for: "taken-over", after: number, within: .seconds(10))
            }
            let verdict: String
            do {
                verdict = try victim.verdict()
            } catch {
                throw TestFailure("seed \(seed), \(dead.count) died: \(error)\n\(Self.circumstances(of: move))")
            }
            #expect(verdict == "ok churn", "seed \(seed), \(dead.count) died")
            #expect(try move.server.waitForExit() == .exited(0), "seed \(seed): \(move.server.report())")
            try crew.waitUntilGone()
        }
    }
}
