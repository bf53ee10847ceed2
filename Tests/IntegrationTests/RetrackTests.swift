// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// `thaw restore --track`: pages arrive clean, and what the process writes is counted until it ends.
@Suite(
    .serialized,
    .timeLimit(.minutes(4 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct RetrackTests {
    private static let pages = 1000
    /// What the victim and its C library write besides: stack, buffers, restartable sequences, rings of the heap.
    private static let besides = 24

    /// How the pages come.
    enum Way: String, CaseIterable, Sendable {
        case lazily, eagerly, preCopied
    }

    /// A victim that was moved with `--track`, and everything is there.
    private final class Tracked {
        let victim: MovableVictim
        let move: Move
        let copy: Int32
        private var number = 0

        init(_ victim: MovableVictim, _ way: Way = .lazily, detached: Bool = false) throws {
            self.victim = victim
            var options = Move.Options()
            options.preCopies = way == .preCopied
            options.destination += ["--track", "--stats", victim.folder.file("stats")]
            options.destination += ["--pidfile", victim.folder.file("pid")]
            if way == .eagerly { options.destination.append("--eager") }
            if detached { options.destination.append("--detach") }
            move = try Move(of: victim.pid, options)
            copy = try move.waitUntilRunning()
            try move.waitUntilComplete()
            if detached { #expect(try move.restorer.waitForExit() == .exited(0)) }
        }

        /// The restorer, or the daemon that it has become.
        var restorer: Int32 {
            get throws { Int32((try readText(victim.folder.file("pid"))).filter(\.isNumber)) ?? 0 }
        }

        var statistics: JSONValue {
            get throws { try JSONValue(parsing: readText(victim.folder.file("stats"))) }
        }

        var flags: [String] {
            get throws {
                try readText("/proc/\(copy)/smaps").split(separator: "\n").filter { $0.hasPrefix("VmFlags:") }
                    .flatMap { $0.split(separator: " ").map(String.init) }
            }
        }

        func order(_ command: String) throws {
            number += 1
            try writeFile(victim.folder.file("do.\(number)"), command + "\n")
        }

        /// Has the victim do something; fails when it finds its memory wrong.
        func ask(_ command: String) throws {
            try order(command)
            let line = try victim.waitForLine { $0.hasPrefix("\(number) ") }
            guard line == "\(number) 0" else { throw TestFailure("\(command): \(line)") }
        }
    }

    private static func withTracked<Result>(
        _ way: Way = .lazily,
        detached: Bool = false,
        _ body: (Tracked) throws -> Result
    ) throws -> Result {
        try withMovableVictim("retracked", ["\(pages)"]) { try body(Tracked($0, way, detached: detached)) }
    }

    @Test(arguments: Way.allCases)
    func exactlyThePagesThatAreWrittenAreCounted(way: Way) throws {
        try Self.withTracked(way) { tracked in
            let events = tracked.move.restorerEvents
            try events.wait(for: "written", pages: 0)
            // Two looks later nothing has come of reading all of it.
            try tracked.ask("read")
            usleep(2_300_000)
            try tracked.ask("write 500")
            let number = try events.wait(for: "written", pages: 500)
            let before = events.seen.compactMap { $0["state"]?.string == "written" ? $0["pages"]?.integer : nil }
            // A look may fall into the writing.
            #expect(before.dropLast().filter { $0 > Self.besides }.count <= 1, "\(before)")
            #expect(500...500 + Self.besides ~= number, "\(number)")
            // The same pages again are no more pages.
            try tracked.ask("write 500")
            try tracked.ask("write 700")
            let last = try events.wait(for: "written", pages: 700)
            #expect(200...204 ~= last - number, "\(number), then \(last)")
            try tracked.order("exit 5")
            #expect(try tracked.move.restorer.waitForExit() == .exited(5), "\(tracked.move.restorer.report())")
            #expect(try tracked.statistics["written"]?.integer == last)
            try events.finish()
            #expect(events.names.last == "exited")
        }
    }

    /// Nothing but `--track` counts, and nothing else leaves a registration behind.
    @Test func withoutTheOptionNothingStays() throws {
        try withMovableVictim("retracked", ["100"]) { victim in
            var options = Move.Options()
            options.destination += ["--stats", victim.folder.file("stats")]
            let move = try Move(of: victim.pid, options)
            let copy = try move.waitUntilRunning()
            try move.waitUntilComplete()
            #expect(!(try readText("/proc/\(copy)/smaps").contains(" uw")))
            kill(copy, SIGKILL)
            #expect(try move.restorer.waitForExit() == .exited(137))
            #expect(!move.restorerEvents.names.contains("written"))
            let statistics = try JSONValue(parsing: readText(victim.folder.file("stats")))
            #expect(statistics["written"] != nil && statistics["written"]?.integer == nil)
        }
    }

    @Test(arguments: [Way.lazily, .preCopied])
    func whatTheProcessDoesGoesOnUndisturbed(way: Way) throws {
        try Self.withTracked(way) { tracked in
            #expect(try tracked.flags.contains("uw"))
            for command in ["fork", "write 100", "fork", "move", "fork", "drop 100", "unmap 300", "write 50", "fork"] {
                try tracked.ask(command)
            }
            // What it has is still counted where it was moved to.
            #expect(try tracked.move.restorerEvents.wait(for: "written", pages: 100) <= 100 + Self.besides)
            try tracked.ask("write 400")
            #expect(try tracked.move.restorerEvents.wait(for: "written", pages: 400) <= 400 + Self.besides)
            try tracked.order("exec")
            try wait(for: "the program that it executes") { tracked.victim.lines.filter { $0 == "ready" }.count == 2 }
            #expect(try !tracked.flags.contains("uw"))
            let count = tracked.victim.lines.count
            try wait(for: "it to run") { tracked.victim.lines.count > count + 3 }
            #expect(try tracked.move.restorer.pollForExit() == nil)
            kill(tracked.copy, SIGKILL)
            #expect(try tracked.move.restorer.waitForExit() == .exited(137))
            #expect(try tracked.statistics["written"]?.integer ?? 0 >= 400)
        }
    }

    @Test(arguments: [false, true], [SIGKILL, SIGTERM])
    func theProcessOutlivesTheRestorer(detached: Bool, signal: Int32) throws {
        // An attached restorer passes SIGTERM on.
        guard detached || signal == SIGKILL else { return }
        try Self.withTracked(detached: detached) { tracked in
            try tracked.ask("write 300")
            let count = try tracked.move.restorerEvents.wait(for: "written", pages: 300)
            let restorer = try tracked.restorer
            try #require(restorer > 0 && processIsAlive(restorer))
            kill(restorer, signal)
            try wait(for: "the restorer to end") { !processIsAlive(restorer) }
            try wait(for: "the registrations to go") { try !tracked.flags.contains("uw") }
            #expect(try !tracked.flags.contains("um"))
            for command in ["read", "write 100", "fork", "move", "unmap 10", "fork"] { try tracked.ask(command) }
            #expect(processIsAlive(tracked.copy))
            if signal == SIGTERM {
                #expect(try tracked.statistics["written"]?.integer == count)
                #expect(try tracked.statistics["result"]?.string == "complete")
            }
        }
    }

    @Test func aProcessThatIsTrackedIsRefusedUntilTheRestorerHasGone() throws {
        try Self.withTracked(detached: true) { tracked in
            let server = try Move.startServer(tracked.copy)
            #expect(try server.waitForExit() == .exited(78), "\(server.report())")
            #expect(server.errors.contains("is itself being restored"), "\(server.errors)")
            #expect(server.errors.contains("end the restore --track that stays with it"), "\(server.errors)")
            let words = ["track", "-t", "\(tracked.copy)", "--interval", "0.05", "--rounds", "2"]
            let refused = try runToEnd(BuiltProduct.thaw, words)
            #expect(refused.ending == .exited(78), "\(refused)")
            #expect(refused.errors.contains("is itself being restored"), "\(refused)")
            // The count has not suffered.
            try tracked.ask("write 200")
            #expect(try tracked.move.restorerEvents.wait(for: "written", pages: 200) <= 200 + Self.besides)
            let restorer = try tracked.restorer
            kill(restorer, SIGTERM)
            try wait(for: "the restorer to end") { !processIsAlive(restorer) }
            let taken = try runToEnd(BuiltProduct.thaw, words)
            #expect(taken.ending == .exited(0), "\(taken)")
            let second = try Move.startServer(tracked.copy)
            try StatusEvents(of: second).wait(for: "listening")
            second.signal(SIGTERM)
            try second.waitForExit()
            try tracked.ask("read")
        }
    }
}
