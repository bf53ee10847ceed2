// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// Moves whose pages come over several connections.
@Suite(
    .serialized,
    .timeLimit(.minutes(4 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct StreamsTests {
    private static func options(_ streams: Int, preCopies: Bool = false) -> Move.Options {
        var options = Move.Options()
        options.destination += ["--streams", "\(streams)"]
        options.isProxied = true
        options.preCopies = preCopies
        return options
    }

    /// The connections of control, of faults, and the first stream come first.
    @Test(arguments: [2, 8], [false, true])
    func pagesComeOverAllOfThem(streams: Int, preCopies: Bool) throws {
        try withMovableVictim("carried", ["large", "threads", "anonymous", "shared-pages"]) { victim in
            let move = try Move(of: victim.pid, Self.options(streams, preCopies: preCopies))
            let proxy = try #require(move.proxy)
            try move.waitUntilRunning()
            try move.waitUntilComplete()
            #expect(proxy.accepted == 2 + streams)
            if !preCopies {
                let busy = (2..<2 + streams).filter { proxy.carried(by: $0, .toClient) > 64 << 10 }
                #expect(busy.count > 1)
            }
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
        }
    }

    /// All of them are made anew, whichever is lost, and what was under way on it comes again.
    @Test(arguments: [UInt64(1), UInt64.random(in: 2..<1 << 32)])
    func anyOfThemMayBreak(seed: UInt64) throws {
        try withMovableVictim("carried", ["large", "threads", "anonymous"]) { victim in
            var random = SeededGenerator(seed: seed)
            var plans = ["seed \(seed)"]
            let move = try Move(of: victim.pid, Self.options(3))
            let proxy = try #require(move.proxy)
            try move.waitUntilRunning()
            for number in 0..<8 {
                let connection = proxy.accepted - 1 - Int.random(in: 0..<3, using: &random)
                let at = proxy.carried(by: connection, .toClient) + UInt64.random(in: 0..<1 << 20, using: &random)
                proxy.plan(.cut, connection: connection, .toClient, at: at)
                plans.append("connection \(connection) at \(at)")
                do {
                    try move.restorerEvents.wait(for: "resumed", after: number, within: .seconds(3))
                } catch {
                    // What was planned needs traffic that did not come: then it is cut now, unless everything is there.
                    if move.restorerEvents.names.contains("resident") { break }
                    proxy.cut(connection)
                    plans.append("now")
                    try move.restorerEvents.wait(for: "resumed", after: number)
                }
            }
            try move.waitUntilComplete()
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried", "\(plans)")
        }
    }

    /// A process that changes its memory all the time, and a restorer that dies.
    @Test(arguments: [UInt64(1), UInt64.random(in: 2..<1 << 32)])
    func whoTakesOverHasAsMany(seed: UInt64) throws {
        try withMovableVictim("churn", ["\(seed % 1000)", "3", "6"]) { victim in
            var random = SeededGenerator(seed: seed)
            let move = try Move(of: victim.pid, Self.options(4))
            try move.waitUntilRunning()
            let crew = try Crew(of: move.restorer.pid)
            usleep(UInt32.random(in: 0..<30_000, using: &random))
            kill(move.restorer.pid, SIGKILL)
            let verdict = try victim.verdict()
            #expect(verdict == "ok churn", "seed \(seed)")
            try crew.waitUntilGone()
        }
    }
}
