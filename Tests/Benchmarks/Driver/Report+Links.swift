// SPDX-License-Identifier: Apache-2.0
internal import Reporting
internal import TestSupport

// What is measured through a network that is slower than loopback.
extension Report {
    func measureLinks(_ plan: Plan) throws -> JSON {
        let mebibytes = plan.isQuick ? 64 : 512
        let table = Table(
            "Wait for a page on scattered touches through a link, microseconds, while \(mebibytes) MiB stream (floor: as well)",
            "                   link",
            "program",
            "   p50",
            "   p99",
            "  p999",
            "waits",
            "MiB/s",
            "p50 - delay"
        )
        var rows: [JSON] = []
        for wire in plan.wires {
            // Few pages: how many are touched depends on how long the stream takes.
            let floor = try (0..<plan.repetitions).map { _ in
                try measureFloor(["fault", "200000", "1", "apart", "drain=\(mebibytes)", wire.floorMode])
            }
            let moves = try (0..<plan.repetitions).map { _ in
                try Move(.init(arguments: ["\(mebibytes)", "1", "touch"], ending: .itself, wire: wire))
            }
            func p50(_ says: JSONValue) -> Double { says["p50"]?.number ?? 0 }
            let base = median(of: floor, by: p50)
            let move = median(of: moves) { p50($0.victimSays) }
            let delay = Double(wire.delay)
            row(table, wire, "floor", base, base["mebibytesPerSecond"]?.number ?? 0)
            row(table, wire, "thaw", move.victimSays, move.speed)
            let goal = delay + 1.15 * max(0, p50(base) - delay)
            let reached = decimal(p50(move.victimSays))
            say("\(wire.name): thaw's p50 is \(reached); delay + 1.15 x floor is \(decimal(goal))")
            rows.append(
                .object([
                    .init("delayMicroseconds", .whole(wire.delay)), .init("megabits", .whole(wire.megabits)),
                    .init("floor", base.numbers), .init("thaw", move.victimSays.numbers),
                    .init("floorMebibytesPerSecond", .decimal(base["mebibytesPerSecond"]?.number ?? 0)),
                    .init("thawMebibytesPerSecond", .decimal(move.speed)), .init("goal", .decimal(goal)),
                ])
            )
        }
        return .list(rows)
    }

    private func row(_ table: Table, _ wire: Wire, _ program: String, _ says: JSONValue, _ speed: Double) {
        func figure(_ name: String) -> Double { says[name]?.number ?? 0 }
        table.row(
            wire.name,
            program,
            decimal(figure("p50")),
            decimal(figure("p99")),
            decimal(figure("p999")),
            decimal(figure("waits"), 0),
            decimal(speed, 0),
            decimal(figure("p50") - Double(wire.delay))
        )
    }
}
