// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// Moves in which something happens to what travels: cut off, delayed, carried twice or with another bit, at any place of any connection
/// from the first byte of the handshake on.
///
/// `THAW_DISTURBANCES=1` does everything at the beginning of every message, and then what a seed chooses; `THAW_DISTURBANCES=2/4` the second
/// quarter of that, beside others (much of the time nobody does anything: a message that seems longer than it is is waited for).
/// `THAW_SEED` repeats one.
@Suite(
    .serialized,
    .timeLimit(.minutes(180 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct DisturbanceTests {
    private static let isWhole = Machine.variable("THAW_DISTURBANCES") != nil
    /// Which part of it, and of how many.
    private static let part: (number: Int, count: Int) = {
        let words = Machine.variable("THAW_DISTURBANCES")?.split(separator: "/").compactMap { Int($0) } ?? []
        return words.count == 2 && words[0] > 0 && words[1] > 0 ? (words[0], words[1]) : (1, 1)
    }()
    /// How long the suite may go on to look at further places when not all of them are asked for.
    private static let time = Duration.seconds(12)

    /// The connections of a move in the order in which they come.
    private enum Kind: Int, CaseIterable {
        case control
        case fault
        case bulk
    }

    /// What happens to one move.
    private struct Plan: CustomStringConvertible {
        var action: CuttingProxy.Action
        var kind: Kind
        var direction: CuttingProxy.Direction
        var place: CuttingProxy.Place

        var description: String { "\(kind) \(direction) \(place): \(action)" }
    }

    /// How much travels in one direction of a connection.
    private struct Extent {
        var bytes: UInt64
        /// The records that begin one.
        var messages: [UInt64]
    }

    /// How a move can end.
    private enum Ending {
        /// With every byte at the destination, and nothing left at the source.
        case moved
        /// The process runs at the source, and both programs have said why.
        case undone
        /// The destination was turned away before anything happened, and the next one got the process.
        case movedByAnother
    }

    /// A record of TLS that seems longer than it is leaves its reader waiting, until the minute has passed that a side waits for an answer.
    private static let slowest = Duration.seconds(150)

    private static let directions = CuttingProxy.Direction.allCases

    /// What happens at a place, with lengths and bits by chance.
    private static func actions(_ random: inout SeededGenerator) -> [CuttingProxy.Action] {
        [
            .cut, .halfClose, .duplicate(0), .duplicate(UInt32.random(in: 1...64, using: &random)),
            .corrupt(UInt32.random(in: 0..<1 << 17, using: &random)),
            .delay(UInt32.random(in: 1...300, using: &random)),
        ]
    }

    /// Every action at every message.
    private static func sweep(_ extents: [[Extent]], _ random: inout SeededGenerator) -> [Plan] {
        var plans: [Plan] = []
        for kind in Kind.allCases {
            for direction in directions {
                for record in extents[kind.rawValue][Int(direction.rawValue)].messages {
                    plans += actions(&random).map {
                        Plan(action: $0, kind: kind, direction: direction, place: .record(record))
                    }
                    // The header of the record, whose length may come to name what never comes.
                    plans.append(
                        Plan(
                            action: .corrupt(UInt32.random(in: 0..<40, using: &random)),
                            kind: kind,
                            direction: direction,
                            place: .record(record)
                        )
                    )
                }
            }
        }
        return plans
    }

    /// Places by chance.
    private static func samples(_ count: Int, _ extents: [[Extent]], _ random: inout SeededGenerator) -> [Plan] {
        (0..<count).map { _ in
            let kind = Kind.allCases.randomElement(using: &random) ?? .control
            let direction = directions.randomElement(using: &random) ?? .toClient
            let extent = extents[kind.rawValue][Int(direction.rawValue)]
            let isRecord = Bool.random(using: &random)
            return Plan(
                action: actions(&random).randomElement(using: &random) ?? .cut,
                kind: kind,
                direction: direction,
                place: isRecord
                    ? .record(extent.messages.randomElement(using: &random) ?? 0)
                    : .byte(UInt64.random(in: 0..<max(1, extent.bytes), using: &random))
            )
        }
    }

    /// What an undisturbed move carries.
    private static func extents() throws -> [[Extent]] {
        try withMovableVictim("carried", ["heap", "registers"]) { victim in
            var options = Move.Options()
            options.isProxied = true
            let move = try Move(of: victim.pid, options)
            let proxy = try #require(move.proxy)
            try move.waitUntilRunning()
            try move.waitUntilComplete()
            _ = try victim.verdict()
            try move.restorer.waitForExit()
            return Kind.allCases.map { kind in
                directions.map {
                    Extent(
                        bytes: proxy.carried(by: kind.rawValue, $0),
                        messages: proxy.messages(of: kind.rawValue, $0)
                    )
                }
            }
        }
    }

    // MARK: - One move

    private static func move(_ plan: Plan) throws -> Ending {
        try withMovableVictim("carried", ["heap", "registers"]) { victim in
            let server = try Move.startServer(victim.pid)
            defer { server.end() }
            let port = try StatusEvents(of: server).wait(for: "listening")["port"]?.integer ?? 0
            let proxy = try CuttingProxy(to: port)
            proxy.plan(plan.action, connection: plan.kind.rawValue, plan.direction, at: plan.place)
            var restorer = try Move.startRestorer(proxy.port)
            defer {
                restorer.end()
                withExtendedLifetime(proxy) {}
            }
            do {
                try wait(for: "an end", within: slowest) {
                    try server.pollForExit() != nil || restorer.pollForExit() != nil
                }
            } catch {
                throw TestFailure("\(error); \(server.report()); \(restorer.report())")
            }
            var ending = Ending.moved
            // Turned away before anything had happened, or the page server is about to undo: the next destination comes.
            while try server.pollForExit() == nil {
                try requireReason(plan, restorer)
                restorer = try Move.startRestorer(port)
                ending = .movedByAnother
                try wait(for: "an end after \(plan)", within: slowest) {
                    try server.pollForExit() != nil || restorer.pollForExit() != nil
                }
            }
            let there = try server.waitForExit()
            if there != .exited(0) {
                try requireReason(plan, restorer)
                ending = .undone
            }
            let verdict = try victim.verdict()
            guard verdict == "ok carried" else { throw TestFailure("\(verdict); \(server.report())") }
            guard ending == .undone else {
                guard !processIsAlive(victim.pid) else { throw TestFailure("two processes") }
                guard try restorer.waitForExit() == .exited(0) else { throw TestFailure(restorer.report()) }
                return ending
            }
            guard [.exited(75), .exited(76)].contains(there), server.errors.contains("thaw: ") else {
                throw TestFailure("\(there): \(server.report())")
            }
            return ending
        }
    }

    /// A restorer says why it does not go on, and with which class of failure.
    private static func requireReason(_ plan: Plan, _ restorer: TestProcess) throws {
        let ending = try restorer.waitForExit()
        guard [.exited(74), .exited(75), .exited(76)].contains(ending), restorer.errors.contains("thaw: ") else {
            throw TestFailure("\(plan): \(ending), \(restorer.report())")
        }
    }

    // MARK: - Tests

    @Test func whateverHappensToWhatTravelsTheProcessIsWhole() throws {
        let seed = Machine.variable("THAW_SEED").flatMap { UInt64($0) } ?? UInt64.random(in: 0..<1 << 32)
        var random = SeededGenerator(seed: seed)
        let began = ContinuousClock.now
        let extents = try Self.extents()
        let plans =
            Self.isWhole
            ? Self.sweep(extents, &random) + Self.samples(200, extents, &random) : Self.samples(40, extents, &random)
        var endings: [Ending: Int] = [:]
        var slowest = (time: Duration.zero, plan: "")
        var done = 0
        for (number, plan) in plans.enumerated() where Self.isWhole || ContinuousClock.now - began < Self.time {
            guard number % Self.part.count == Self.part.number - 1 else { continue }
            done += 1
            let start = ContinuousClock.now
            do {
                endings[try Self.move(plan), default: 0] += 1
            } catch {
                Issue.record("seed \(seed), move \(number): \(plan): \(error)")
            }
            let took = ContinuousClock.now - start
            if took > slowest.time { slowest = (took, "\(plan)") }
            if Self.isWhole, took > .seconds(5) { print("\(plan) took \(took)") }
        }
        if Self.isWhole { print("seed \(seed), \(done) of \(plans.count) moves: \(endings); slowest \(slowest)") }
    }

    /// The detector: something that is carried twice or changed is not taken for what was sent.
    @Test(arguments: [CuttingProxy.Action.duplicate(0), .corrupt(99)])
    func whatIsNotAsItWasSentEndsTheConnection(action: CuttingProxy.Action) throws {
        try withMovableVictim("carried", ["anonymous"]) { victim in
            var options = Move.Options()
            options.isProxied = true
            let move = try Move(of: victim.pid, options)
            let proxy = try #require(move.proxy)
            let happened = proxy.happened
            proxy.plan(action, connection: Kind.bulk.rawValue, .toClient, at: .record(40))
            try move.waitUntilRunning()
            try move.restorerEvents.wait(for: "resumed")
            #expect(proxy.happened == happened + 1)
            try move.waitUntilComplete()
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
            #expect(try move.restorer.waitForExit() == .exited(0))
        }
    }
}
