// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// Shared memory that nothing but its mapping leads to arrives lazily, whatever happens meanwhile; ``CarriedTests`` moves it undisturbed.
@Suite(.serialized, .timeLimit(.minutes(4)), .enabled(if: Machine.isRoot, "needs root: run deploy/test as root"))
struct SharedMemoryTests {
    private func statistics(_ victim: MovableVictim) throws -> JSONValue {
        try JSONValue(parsing: readText(victim.folder.file("statistics")))
    }

    /// 40 MiB of it; what goes ahead is what each process needs.
    @Test func nothingOfItGoesAhead() throws {
        try withMovableVictim("carried", ["shared-pages"]) { victim in
            var options = Move.Options()
            options.destination += ["--stats", victim.folder.file("statistics")]
            let move = try Move(of: victim.pid, options)
            try move.waitUntilComplete()
            #expect(try victim.verdict() == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0))
            let pages = try statistics(victim)["pages"]
            // 8192 dense pages, every seventh of 8192 and as many of zeros, every second of 700.
            let eager = try #require(pages?["eager"]?.integer)
            let total = try #require(pages?["total"]?.integer)
            let zero = try #require(pages?["zero"]?.integer)
            #expect(eager < 300)
            #expect(total >= 8192 + 2 * 1170 + 350 && total < 11_500, "\(total)")
            #expect(zero >= 1170, "\(zero)")
        }
    }

    /// A descriptor reads holes as zeros and waits for nothing; a process that stays tracked has its one userfaultfd for that.
    @Test(arguments: [(part: "memfd", arguments: []), ("shared-pages", ["--track"])])
    func whatCannotWaitGoesAhead(part: String, arguments: [String]) throws {
        try withMovableVictim("carried", [part]) { victim in
            var options = Move.Options()
            options.destination += ["--stats", victim.folder.file("statistics")] + arguments
            let move = try Move(of: victim.pid, options)
            try move.waitUntilComplete()
            #expect(try victim.verdict() == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0))
            let eager = try #require(try statistics(victim)["pages"]?["eager"]?.integer)
            #expect(eager > (part == "memfd" ? 48 : 10_000), "\(eager)")
        }
    }

    /// A fork, a removal or a move waits for shared memory and not for everything: the large mapping lies before it in the stream.
    @Test func whoWaitsForAllOfItDoesNotWaitForTheRest() throws {
        try withMovableVictim("carried", ["shared-life", "large"]) { victim in
            let move = try Move(of: victim.pid)
            try move.waitUntilRunning()
            try victim.tell("go")
            try wait(for: "the moved mapping") { (try? readText(victim.folder.file("shared-life"))) != nil }
            #expect(!move.restorerEvents.names.contains("resident"))
            try move.waitUntilComplete()
            #expect(try victim.verdict() == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0))
        }
    }

    @Test(arguments: [false, true])
    func anotherRestorerTakesOver(whileAForkWaits: Bool) throws {
        try withMovableVictim("carried", ["shared-pages", "shared-life"]) { victim in
            var options = Move.Options()
            options.stallsAfter = 8 << 20
            let move = try Move(of: victim.pid, options)
            let copy = try move.waitUntilRunning()
            let proxy = try #require(move.proxy)
            try wait(for: "the stall") { proxy.cuts > 0 }
            let crew = try Crew(of: move.restorer.pid)
            if whileAForkWaits {
                try victim.tell("go")
                usleep(300_000)
            }
            for number in 0..<2 {
                let restorer = try #require(number == 0 ? move.restorer.pid : try crew.restorer())
                kill(restorer, SIGKILL)
                try move.restorerEvents.wait(for: "taken-over", after: number)
            }
            #expect(processIsAlive(copy))
            proxy.cutAll()
            try move.restorerEvents.wait(for: "resumed")
            try move.waitUntilComplete()
            #expect(try victim.verdict() == "ok carried")
            #expect(try move.server.waitForExit() == .exited(0), "\(move.server.report())")
            try crew.waitUntilGone()
        }
    }

    /// The guardian is told of it as of all other memory: with restorer and keeper dead nobody reads zeros.
    @Test func theProcessEndsWithAllWhoServeIt() throws {
        try withMovableVictim("carried", ["shared-pages"]) { victim in
            var options = Move.Options()
            options.stallsAfter = 8 << 20
            let move = try Move(of: victim.pid, options)
            let copy = try move.waitUntilRunning()
            try wait(for: "the stall") { try #require(move.proxy).cuts > 0 }
            try victim.tell("go")
            usleep(100_000)
            move.killRestorerAndKeeper()
            try wait(for: "its end") { !processIsAlive(copy) }
            #expect(victim.lines == ["ready"])
        }
    }

    @Test(arguments: [UInt64(1), UInt64.random(in: 2..<1 << 32)])
    func connectionsMayBreak(seed: UInt64) throws {
        try withMovableVictim("carried", ["shared-life", "shared-pages", "anonymous"]) { victim in
            var random = SeededGenerator(seed: seed)
            var options = Move.Options()
            options.isProxied = true
            let move = try Move(of: victim.pid, options)
            let proxy = try #require(move.proxy)
            try move.waitUntilRunning()
            try victim.tell("go")
            for number in 0..<6 {
                usleep(UInt32.random(in: 0..<60_000, using: &random))
                proxy.cutAll()
                if move.restorerEvents.names.contains("resident") { break }
                try move.restorerEvents.wait(for: "resumed", after: number)
            }
            try move.waitUntilComplete()
            #expect(try victim.verdict() == "ok carried", "seed \(seed)")
            #expect(try move.restorer.waitForExit() == .exited(0))
        }
    }

    /// Threads that miss shared memory wait for a source that stays lost, even where others get SIGBUS.
    @Test func itIsNotPoisoned() throws {
        try withMovableVictim("carried", ["shared-pages", "anonymous"]) { victim in
            var options = Move.Options()
            options.destination += ["--on-source-loss", "poison", "--loss-timeout", "1"]
            options.stallsStreamAfter = 2 << 20
            let move = try Move(of: victim.pid, options)
            let proxy = try #require(move.proxy)
            try move.waitUntilRunning()
            try wait(for: "the stall") { proxy.cuts > 0 }
            proxy.refuse(true)
            proxy.cutAll()
            try wait(for: "the poison") { move.restorer.report().contains("SIGBUS") }
            proxy.refuse(false)
            try move.waitUntilComplete()
            #expect(try victim.verdict() == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0))
        }
    }

    /// The first restorer still lives and has let go of the objects.
    @Test(arguments: [[], ["--detach"]])
    func itIsMovedAgain(further: [String]) throws {
        try withMovableVictim("carried", ["shared-pages", "shared-life"]) { victim in
            var options = Move.Options()
            options.destination += further
            let first = try Move(of: victim.pid, options)
            let copy = try first.waitUntilRunning()
            try first.waitUntilComplete()
            let second = try Move(of: copy)
            try second.waitUntilRunning()
            #expect(try victim.verdict() == "ok carried")
            try second.waitUntilComplete()
            #expect(try second.restorer.waitForExit() == .exited(0), "\(second.restorer.report())")
        }
    }
}
