// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// Moves whose pages come while the process still runs and writes.
@Suite(
    .serialized,
    .timeLimit(.minutes(4 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct PreCopyMoveTests {
    /// One run of the model: what memory must hold follows from the seed and the number of steps.
    struct Churn: Sendable, CustomTestStringConvertible {
        let seed: Int
        let threads: Int
        /// Steps of each thread in a millisecond; 0 for as many as there can be.
        let steps: Int

        var arguments: [String] { ["\(seed)", "\(threads)", "\(steps)"] }
        var testDescription: String { "seed \(seed), \(threads) threads, \(steps) steps/ms" }
    }

    private static let churns = [
        Churn(seed: 1, threads: 1, steps: 1), Churn(seed: 2, threads: 1, steps: 20),
        Churn(seed: 3, threads: 2, steps: 0), Churn(seed: 4, threads: 4, steps: 5),
        Churn(seed: 5, threads: 6, steps: 1), Churn(seed: 6, threads: 1, steps: 0),
        Churn(seed: Int.random(in: 7..<1 << 30), threads: 4, steps: 10),
    ]

    private static func preCopying(_ arguments: [String] = [], detached: Bool = false) -> Move.Options {
        var options = Move.Options()
        options.preCopies = true
        options.destination += arguments
        if detached { options.destination.append("--detach") }
        return options
    }

    @Test(arguments: churns)
    func everyByteIsRightWhateverTheProcessDoesMeanwhile(churn: Churn) throws {
        try withMovableVictim("churn", churn.arguments) { victim in
            var pid = victim.pid
            var moves: [Move] = []
            for isLast in [false, true] {
                let move = try Move(of: pid, Self.preCopying(detached: !isLast))
                moves.append(move)
                pid = try move.waitUntilRunning()
                try move.waitUntilComplete()
                #expect(move.restorerEvents.names.contains("pre-copy"))
                if !isLast { #expect(try move.restorer.waitForExit() == .exited(0)) }
            }
            let verdict = try victim.verdict()
            #expect(verdict == "ok churn")
            #expect(try moves.last?.restorer.waitForExit() == .exited(0))
            // Nothing was done twice, and nothing was forgotten.
            let steps = victim.lines.filter { $0.hasPrefix("steps ") }.compactMap { Int($0.dropFirst(6)) }
            #expect(steps == steps.sorted() && steps.count > 3)
        }
    }

    /// The model sees one bit.
    @Test func aWrongByteIsSeen() throws {
        try withMovableVictim("churn", ["1", "2", "1", "spoil"]) { victim in
            let verdict = try victim.verdict()
            #expect(verdict.hasPrefix("wrong churn: thread 1 "))
        }
    }

    @Test(.enabled(if: slowness == 1, "with a sanitizer three moves take longer than its timers run"))
    func everythingIsAsBeforeAfterThreeMoves() throws {
        try withMovableVictim("everything") { victim in
            var pid = victim.pid
            var moves: [Move] = []
            for number in 1...3 {
                let move = try Move(of: pid, Self.preCopying(detached: number < 3))
                moves.append(move)
                pid = try move.waitUntilRunning()
                try victim.tell("round.\(number)")
                let line = try victim.waitForLine { $0.hasPrefix("round \(number) ") }
                try #require(line == "round \(number) ok")
                try move.waitUntilComplete()
            }
            let verdict = try victim.verdict()
            #expect(verdict == "ok everything")
            #expect(try moves.last?.restorer.waitForExit() == .exited(0))
        }
    }

    /// How a vast victim is moved; what the restorer counted.
    private static func moveVast(_ arguments: [String], _ options: Move.Options = preCopying()) throws -> JSONValue {
        try withMovableVictim("vast", arguments) { victim in
            var options = options
            let statistics = victim.folder.file("statistics")
            options.destination += ["--stats", statistics]
            let move = try Move(of: victim.pid, options)
            try move.waitUntilRunning()
            try move.waitUntilComplete()
            let verdict = try victim.verdict()
            guard verdict == "ok vast" else { throw TestFailure(verdict) }
            #expect(try move.restorer.waitForExit() == .exited(0))
            return try JSONValue(parsing: readText(statistics))
        }
    }

    private static func preCopied(_ statistics: JSONValue) throws -> Int {
        guard let pages = statistics["pages"]?["preCopied"]?.integer else { throw TestFailure("\(statistics)") }
        return pages
    }

    @Test(arguments: [1, 8, 32])
    func anAllocatorThatMapsAndThrowsAwayKeepsItsBlocks(threads: Int) throws {
        try withMovableVictim("heapy", ["\(threads)"]) { victim in
            var pid = victim.pid
            for isLast in [false, true] {
                let move = try Move(of: pid, Self.preCopying(detached: true))
                pid = try move.waitUntilRunning()
                _ = move.giveAway()
                if isLast { try victim.tell("go") }
                try move.waitUntilComplete()
            }
            let verdict = try victim.waitForLine { $0.hasSuffix("heapy") || $0.hasPrefix("wrong") }
            #expect(verdict == "ok heapy")
        }
    }

    /// 16 TiB that are reserved cost nothing, and neither do many small mappings beside their number.
    @Test func whatIsNotThereCostsNothing() throws {
        #expect(try Self.preCopied(Self.moveVast(["16384", "1000", "0"])) > 950)
        #expect(try Self.preCopied(Self.moveVast(["1", "10", "4000"])) > 3_950)
    }

    /// More than a process may have without the administrator's word.
    @Test(.enabled(if: slowness == 1, "sanitizers take longer for so many than a peer may be silent"))
    func moreMappingsThanUsualAreMoved() throws {
        let limit = try MappingLimit(300_000)
        defer { limit.putBack() }
        #expect(try Self.preCopied(Self.moveVast(["1", "10", "70000"])) > 69_950)
    }

    /// A device may write into memory without anybody's seeing it.
    @Test func nothingIsPreCopiedOfAProcessWithDirectIO() throws {
        let statistics = try Self.moveVast(["1", "1000", "0", "direct"])
        #expect(try Self.preCopied(statistics) == 0)
        #expect(statistics["tracker"]?.string == "none")
    }

    @Test(arguments: ["continue", "stop"])
    func nothingOfTheTrackerIsLeftInAProcessThatLivesOn(action: String) throws {
        try withMovableVictim("carried", ["large", "heap", "anonymous"]) { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            var options = Self.preCopying()
            options.source = ["--on-complete", action]
            let move = try Move(of: victim.pid, options)
            let copy = try move.waitUntilRunning()
            try move.waitUntilComplete()
            kill(copy, SIGKILL)
            if action == "stop" { kill(victim.pid, SIGCONT) }
            try waitUntilUnchanged(victim.pid, since: before)
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
        }
    }

    /// The one who goes, and how the other one ends.
    struct Death: Sendable, CustomTestStringConvertible {
        let isServer: Bool
        let signal: Int32

        var testDescription: String { "\(isServer ? "page server" : "restorer"), signal \(signal)" }
    }

    @Test(
        arguments: [true, false].flatMap { isServer in [SIGKILL, SIGTERM].map { Death(isServer: isServer, signal: $0) }
        }
    )
    func whoDiesDuringPreCopyLeavesNoTrace(death: Death) throws {
        try withMovableVictim("carried", ["large", "locks"]) { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            var endless = Self.preCopying()
            endless.stallsAfter = 16 << 20
            let move = try Move(of: victim.pid, endless)
            try wait(for: "the tracker") { try isTracked(victim.pid) }
            let dying = death.isServer ? move.server : move.restorer
            dying.signal(death.signal)
            if death.isServer {
                #expect(try move.restorer.waitForExit() == .exited(75), "\(move.restorer.report())")
            } else {
                // The page server waits for another destination; the tracker has gone before it does.
                try wait(for: "the tracker to go") { try !isTracked(victim.pid) }
                move.server.signal(SIGTERM)
                #expect(try move.server.waitForExit() == .exited(75), "\(move.server.report())")
            }
            try move.serverEvents.finish()
            try #require(!move.serverEvents.names.contains("frozen"), "the signal came too late")
            try waitUntilUnchanged(victim.pid, since: before)
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
        }
    }

    @Test func eitherSideMayForbidIt() throws {
        for isSource in [true, false] {
            try withMovableVictim("carried", ["heap"]) { victim in
                var options = Self.preCopying(isSource ? [] : ["--pre-copy-rounds", "0"])
                if isSource { options.source = ["--no-pre-copy"] }
                let move = try Move(of: victim.pid, options)
                try move.waitUntilRunning()
                try move.waitUntilComplete()
                #expect(!move.restorerEvents.names.contains("pre-copy"))
                let verdict = try victim.verdict()
                #expect(verdict == "ok carried")
            }
        }
    }
}
