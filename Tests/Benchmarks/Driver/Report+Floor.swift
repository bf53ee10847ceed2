// SPDX-License-Identifier: Apache-2.0
internal import Reporting
internal import TestSupport

// What is measured next to the floor: one fault, and the stream.
extension Report {
    func measureLatency(_ plan: Plan) throws -> JSON {
        let mebibytes = Self.floorMebibytes(plan)
        let table = Table(
            "Wait for a page on scattered touches, microseconds (\(mebibytes) MiB by thaw, while everything else streams)",
            "       ",
            "   p50",
            "   p90",
            "   p99",
            "  p999",
            "      max",
            "  waits"
        )
        let floor = try measureFloor(["fault", "20000", "1"])
        Self.row("floor", floor, table)
        let move = try Move(.init(arguments: ["\(mebibytes)", "1", "touch"], ending: .itself))
        Self.row("thaw", move.victimSays, table)
        let ratio = (move.victimSays["p50"]?.number ?? 0) / max(0.001, floor["p50"]?.number ?? 0)
        say("thaw's median is \(decimal(ratio, 2)) times the floor's")
        return .object([
            .init("floor", floor.numbers), .init("thaw", move.victimSays.numbers), .init("ratio", .decimal(ratio)),
        ])
    }

    func measureBulk(_ plan: Plan) throws -> JSON {
        let mebibytes = Self.floorMebibytes(plan)
        // The first run touches memory that the machine may have to find first.
        _ = try measureFloor(["bulk", "\(mebibytes * 256)"])
        let floor = try measureFloor(["bulk", "\(mebibytes * 256)"])["mebibytesPerSecond"]?.number ?? 0
        let speed = try Move(.init(arguments: ["\(mebibytes)", "1", "gap"])).speed
        say("\nBulk: floor \(decimal(floor, 0)) MiB/s, thaw \(decimal(speed, 0)) MiB/s (\(mebibytes) MiB)")
        return .object([.init("floor", .decimal(floor)), .init("thaw", .decimal(speed))])
    }

    private static func floorMebibytes(_ plan: Plan) -> Int {
        plan.isQuick ? 1024 : 4096
    }

    private static func row(_ name: String, _ values: JSONValue, _ table: Table) {
        func figure(_ member: String) -> String { decimal(values[member]?.number ?? 0) }
        let waits = values["waits"]?.integer.map(String.init) ?? "20000"
        table.row(name, figure("p50"), figure("p90"), figure("p99"), figure("p999"), figure("max"), waits)
    }
}

extension JSONValue {
    /// An object of numbers.
    fileprivate var numbers: JSON {
        guard case .object(let members) = self else { return .object([]) }
        return .object(members.sorted { $0.key < $1.key }.map { .init($0.key, .decimal($0.value.number ?? 0)) })
    }
}
