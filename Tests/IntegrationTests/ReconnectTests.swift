// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// Moves whose connections break while pages are owed; every byte is compared in the end.
@Suite(.serialized, .timeLimit(.minutes(4)), .enabled(if: Machine.isRoot, "needs root: run deploy/test as root"))
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
}
