// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// Moves whose connections break while pages are owed; every byte is compared in the end.
@Suite(
    .serialized,
    .timeLimit(.minutes(4 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct ReconnectTests {
    private static func proxied(_ arguments: [String] = []) -> Move.Options {
        var options = Move.Options()
        options.isProxied = true
        options.destination += arguments
        return options
    }

    /// Where a connection of the present ones is cut.
    private static func planCut(_ proxy: CuttingProxy, _ random: inout SeededGenerator) -> String {
        // The last three are those of control, of faults and of the stream.
        let kind = Int.random(in: 0..<3, using: &random)
        let connection = proxy.accepted - 3 + kind
        let action = [CuttingProxy.Action.cut, .cutAll, .halfClose].randomElement(using: &random) ?? .cut
        guard kind > 0 else {
            proxy.cut(connection)
            return "control: cut"
        }
        let isRequest = kind == 1 && Bool.random(using: &random)
        let direction = isRequest ? CuttingProxy.Direction.toServer : .toClient
        let offset = UInt64.random(in: 0..<(kind == 2 ? 6 << 20 : 400), using: &random)
        let at = proxy.carried(by: connection, direction) + offset
        proxy.plan(action, connection: connection, direction, at: at)
        return "\(kind == 1 ? "fault" : "bulk"): \(action) \(direction) at \(at)"
    }

    @Test(arguments: [UInt64(1), 2, UInt64.random(in: 3..<1 << 32)])
    func everyConnectionMayBreakAnywhereWhilePagesAreOwed(seed: UInt64) throws {
        try withMovableVictim("carried", ["large", "threads", "anonymous"]) { victim in
            var random = SeededGenerator(seed: seed)
            var plans = ["seed \(seed)"]
            let statistics = victim.folder.file("statistics")
            let move = try Move(of: victim.pid, Self.proxied(["--stats", statistics]))
            let proxy = try #require(move.proxy)
            try move.waitUntilRunning()
            for number in 0..<12 {
                plans.append(Self.planCut(proxy, &random))
                do {
                    try move.restorerEvents.wait(for: "resumed", after: number, within: .seconds(3))
                } catch {
                    // What was planned needs traffic that did not come: then it is cut now, unless everything is there.
                    if move.restorerEvents.names.contains("resident") { break }
                    proxy.cutAll()
                    plans.append("all now")
                    try move.restorerEvents.wait(for: "resumed", after: number)
                }
            }
            try move.waitUntilComplete()
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried", "\(plans)")
            #expect(try move.restorer.waitForExit() == .exited(0), "\(plans) \(move.restorer.report())")
            let counted = try JSONValue(parsing: readText(statistics))
            #expect(counted["result"]?.string == "complete", "\(plans)")
            let reconnects = try #require(counted["reconnects"]?.integer)
            #expect(reconnects > 0, "\(plans)")
            try move.serverEvents.finish()
            #expect(move.serverEvents.names.contains("resumed"), "\(plans)")
        }
    }

    /// Pages that were pre-copied, a process that writes all the time, and connections that break at random moments.
    @Test(arguments: [UInt64(1), UInt64.random(in: 2..<1 << 32)])
    func whatAProcessWritesIsRightWhateverBreaks(seed: UInt64) throws {
        try withMovableVictim("churn", ["\(seed % 1000)", "4", "5"]) { victim in
            var random = SeededGenerator(seed: seed)
            var options = Self.proxied()
            options.preCopies = true
            let move = try Move(of: victim.pid, options)
            let proxy = try #require(move.proxy)
            try move.waitUntilRunning()
            for number in 0..<6 where !move.restorerEvents.names.contains("resident") {
                proxy.plan(.cutAll, at: proxy.carried + UInt64.random(in: 0..<2 << 20, using: &random))
                _ = try? move.restorerEvents.wait(for: "resumed", after: number, within: .seconds(2))
            }
            proxy.forgetPlans()
            try move.waitUntilComplete()
            let verdict = try victim.verdict()
            #expect(verdict == "ok churn", "seed \(seed)")
            #expect(try move.restorer.waitForExit() == .exited(0), "seed \(seed)")
        }
    }

    /// Of the connection of the stream only this end is left when the one of control breaks: it is not waited for.
    /// What a walk asks for ahead may be on its way by a stream that stands still: nobody waits for it, and everything else goes on.
    @Test func nobodyWaitsForAStreamThatStandsStill() throws {
        try withMovableVictim("carried", ["large", "anonymous", "heap"]) { victim in
            var options = Move.Options()
            options.stallsStreamAfter = 8 << 20
            let move = try Move(of: victim.pid, options)
            let proxy = try #require(move.proxy)
            try move.waitUntilRunning()
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(proxy.cuts > 0 && !move.restorerEvents.names.contains("lost"))
        }
    }

    @Test func aStreamOfWhichNothingIsHeardHoldsUpNoOther() throws {
        try withMovableVictim("carried", ["large", "heap"]) { victim in
            var options = Self.proxied()
            options.stallsStreamAfter = 4 << 20
            let move = try Move(of: victim.pid, options)
            let proxy = try #require(move.proxy)
            try move.waitUntilRunning()
            try wait(for: "the stall") { proxy.happened > 0 }
            proxy.cut(0)
            try move.restorerEvents.wait(for: "resumed", within: .seconds(20))
            try move.waitUntilComplete()
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0))
        }
    }

    /// How a small move goes when its control connection is cut at a place; whether it came to its end.
    private static func move(
        cutting action: CuttingProxy.Action,
        _ direction: CuttingProxy.Direction,
        at offset: UInt64
    )
        throws -> Bool
    {
        try withMovableVictim("carried", ["heap", "registers"]) { victim in
            let server = try Move.startServer(victim.pid)
            let events = StatusEvents(of: server)
            let port = try events.wait(for: "listening")["port"]?.integer ?? 0
            let proxy = try CuttingProxy(to: port)
            proxy.plan(action, connection: 0, direction, at: offset)
            let restorer = try Move.startRestorer(proxy.port)
            defer {
                restorer.end()
                server.end()
                withExtendedLifetime(proxy) {}
            }
            let place = "\(action) \(direction) at \(offset)"
            try wait(for: "an end of \(place); \(server.report()); \(restorer.report())") {
                try server.pollForExit() != nil || restorer.pollForExit() != nil
            }
            guard try server.pollForExit() == .exited(0) else {
                // Before the grant: undone on both sides, or nothing had begun, and the next destination may come.
                let here = try restorer.waitForExit()
                guard here == .exited(75) || here == .exited(74) else { throw TestFailure("\(place): \(here)") }
                if !events.names.contains("connected"), try server.pollForExit() == nil { server.signal(15) }
                let there = try server.waitForExit()
                let verdict = try victim.verdict()
                guard there == .exited(75), verdict == "ok carried" else {
                    throw TestFailure("\(place): \(verdict), \(there), \(server.report())")
                }
                return false
            }
            guard !processIsAlive(victim.pid) else { throw TestFailure("\(place): two processes") }
            let verdict = try victim.verdict()
            guard verdict == "ok carried", try restorer.waitForExit() == .exited(0) else {
                throw TestFailure("\(place): \(verdict), \(restorer.report())")
            }
            return true
        }
    }

    /// The last frames of the control connection are BUILT, RUNNING and COMPLETE on one way, GRANT and ACKNOWLEDGED on the other.
    @Test(arguments: CuttingProxy.Direction.allCases)
    func aCutAroundTheGrantAndTheCompletionLeavesOneProcess(direction: CuttingProxy.Direction) throws {
        let whole: UInt64 = try withMovableVictim("carried", ["heap", "registers"]) { victim in
            let move = try Move(of: victim.pid, Self.proxied())
            let proxy = try #require(move.proxy)
            try move.waitUntilRunning()
            try move.waitUntilComplete()
            _ = try victim.verdict()
            try move.restorer.waitForExit()
            return proxy.carried(by: 0, direction)
        }
        var ends = 0
        let offsets = Array(stride(from: UInt64(0), to: 150, by: 15))
        for offset in offsets where try Self.move(cutting: .cut, direction, at: whole - offset) { ends += 1 }
        // How many of them lie behind the grant depends on how often the two sides asked after each other meanwhile.
        #expect(ends > 3, "\(ends) of \(offsets.count)")
        // Amid the greeting or the description nothing is granted, and the process goes on at the source.
        #expect(try !Self.move(cutting: .cut, direction, at: direction == .toServer ? 40 : whole / 2))
    }
}
