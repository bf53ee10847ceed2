// SPDX-License-Identifier: Apache-2.0
internal import BenchmarkPictures
internal import Reporting
internal import TestSupport

// What is measured next to the floor: one fault, many threads, and orders.
extension Report {
    /// One line of the table of waits.
    private struct Wait {
        let name: String
        let measure: () throws -> JSONValue
    }

    func measureLatency(_ plan: Plan) throws -> JSON {
        let mebibytes = Self.floorMebibytes(plan)
        // As much as Thaw moves, from another program as there.
        let streaming = ["drain=\(mebibytes)", "apart"]
        func floor(_ modes: [String], _ placement: Placement = .free) -> () throws -> JSONValue {
            // More pages than are touched while the stream lasts.
            { try measureFloor(["fault", modes.contains(streaming[0]) ? "400000" : "20000", "1"] + modes, placement) }
        }
        func thaw(_ placement: Placement = .free, spin: [String] = []) -> () throws -> JSONValue {
            var request = Move.Request(
                arguments: ["\(mebibytes)", "1", "touch"],
                ending: .itself,
                placement: placement,
                serverOptions: spin
            )
            request.options += spin
            return { try Move(request).victimSays }
        }
        let waits = [
            Wait(name: "floor", measure: floor([])),
            Wait(name: "floor, streaming", measure: floor(streaming)),
            Wait(name: "the same, ranked", measure: floor(streaming + ["ranked"])),
            Wait(name: "thaw", measure: thaw()),
            Wait(name: "floor, spinning", measure: floor(["spin"])),
            Wait(name: "the same + stream", measure: floor(["spin"] + streaming)),
            Wait(name: "thaw, spinning", measure: thaw(spin: ["--spin", "200"])),
            Wait(name: "floor, without TLS", measure: floor(["tcp"])),
            Wait(name: "floor on one CPU", measure: floor([], .oneCPU)),
            Wait(name: "the same, streaming", measure: floor(streaming, .oneCPU)),
            Wait(name: "thaw on one CPU", measure: thaw(.oneCPU)),
        ]
        let table = Table(
            "Wait for a page on scattered touches, microseconds (\(mebibytes) MiB by thaw, while everything else streams)",
            "                  ",
            "   p50",
            "   p90",
            "   p99",
            "  p999",
            "      max",
            "  waits"
        )
        let rows = try alternately(waits, plan.repetitions, table)
        let free = announce(ratiosOf: rows["thaw"], to: rows["floor"], "thaw to the floor")
        let alike = announce(ratiosOf: rows["thaw"], to: rows["floor, streaming"], "thaw to the floor, both streaming")
        let one = announce(ratiosOf: rows["thaw on one CPU"], to: rows["floor on one CPU"], "thaw to it, one CPU")
        let oneAlike = announce(
            ratiosOf: rows["thaw on one CPU"],
            to: rows["the same, streaming"],
            "thaw to the floor, both streaming, one CPU"
        )
        let spinning = announce(
            ratiosOf: rows["thaw, spinning"],
            to: rows["the same + stream"],
            "thaw to the floor, both spinning and streaming"
        )
        if let folder = plan.pictures {
            try writeFile(folder + "/latency.svg", Self.picture(of: waits.map { ($0.name, rows[$0.name]) }).svg)
        }
        return .object(
            waits.map { .init($0.name, rows[$0.name]?.numbers ?? .null) } + [
                .init("ratio", free), .init("ratioStreaming", alike), .init("ratioOnOneCPU", one),
                .init("ratioStreamingOnOneCPU", oneAlike), .init("ratioSpinning", spinning),
            ]
        )
    }

    /// What part of the waits was no longer than a time.
    private static func picture(of rows: [(String, JSONValue?)]) -> Chart {
        let series = rows.map { name, row in
            let points = (row?["curve"]?.array ?? []).compactMap { pair -> (x: Double, y: Double)? in
                guard let numbers = pair.array, numbers.count == 2 else { return nil }
                return (numbers[0].number ?? 0, numbers[1].number ?? 0)
            }
            return Chart.Series(name, points)
        }
        return Chart(
            "Wait for a page that is not there yet",
            x: .init("microseconds", .logarithmic),
            y: .init("percent of waits that were no longer", .tail),
            series
        )
    }

    /// Each row so many times, in turns; the rows of the medians in the middle.
    private func alternately(_ waits: [Wait], _ times: Int, _ table: Table) throws -> [String: JSONValue] {
        var runs: [String: [JSONValue]] = [:]
        for _ in 0..<times {
            for wait in waits { runs[wait.name, default: []].append(try wait.measure()) }
        }
        let rows = runs.mapValues { median(of: $0) { $0["p50"]?.number ?? 0 } }
        for wait in waits {
            if let row = rows[wait.name] { Self.row(wait.name, row, table) }
        }
        return rows
    }

    private func announce(ratiosOf values: JSONValue?, to floor: JSONValue?, _ what: String) -> JSON {
        let members = ["p50", "p90", "p99", "p999"].map { name in
            (name, (values?[name]?.number ?? 0) / max(0.001, floor?[name]?.number ?? 0))
        }
        say("\(what): " + members.map { "\($0.0) \(decimal($0.1, 2)) x" }.joined(separator: ", "))
        return .object(members.map { .init($0.0, .decimal($0.1)) })
    }

    func measureThreads(_ plan: Plan) throws -> JSON {
        let mebibytes = plan.isQuick ? 256 : 1024
        let table = Table(
            "Threads that touch scattered pages of \(mebibytes) MiB while everything else streams",
            "threads",
            "thaw pages/s",
            "of 4 threads",
            "floor pages/s",
            "waits",
            "p50"
        )
        var rows: [JSON] = []
        var reference: Double?
        for threads in [1, 4, 16, 64] {
            let moves = try (0..<plan.repetitions).map { _ in
                try Move(
                    .init(arguments: ["\(mebibytes)", "1", "touch", "scattered", "\(threads)"], ending: .itself)
                ).victimSays
            }
            func rate(_ says: JSONValue) -> Double {
                (says["touches"]?.number ?? 0) / max(0.001, says["seconds"]?.number ?? 0)
            }
            let says = median(of: moves, by: rate)
            if threads == 4 { reference = rate(says) }
            let floor = try measureFloor(["fault", "20000", "\(threads)"])["faultsPerSecond"]?.number ?? 0
            table.row(
                "\(threads)",
                decimal(rate(says), 0),
                reference.map { decimal(rate(says) / $0, 2) } ?? "-",
                decimal(floor, 0),
                decimal(says["waits"]?.number ?? 0, 0),
                decimal(says["p50"]?.number ?? 0)
            )
            rows.append(
                .object([
                    .init("threads", .whole(threads)), .init("pagesPerSecond", .decimal(rate(says))),
                    .init("floorPagesPerSecond", .decimal(floor)), .init("waits", .decimal(says["waits"]?.number ?? 0)),
                ])
            )
        }
        return .list(rows)
    }

    func measureOrders(_ plan: Plan) throws -> JSON {
        let mebibytes = plan.isQuick ? 256 : 1024
        let table = Table(
            "Orders in which one thread touches \(mebibytes) MiB: pages that cost a round trip of their own",
            "     order",
            "remote %",
            "waits %",
            "half s",
            "seconds"
        )
        var rows: [JSON] = []
        for order in ["sequential", "strided", "clustered", "scattered"] {
            let move = try Move(.init(arguments: ["\(mebibytes)", "1", "touch", order], ending: .itself))
            let demanded = move.destination["pages"]?["demanded"]?.number ?? 0
            let touches = move.victimSays["touches"]?.number ?? 0
            let waits = move.victimSays["waits"]?.number ?? 0
            let seconds = move.victimSays["seconds"]?.number ?? 0
            let half = move.victimSays["half"]?.number ?? 0
            table.row(
                order,
                percent(demanded, of: touches),
                percent(waits, of: touches),
                decimal(half, 2),
                decimal(seconds, 2)
            )
            rows.append(
                .object([
                    .init("order", .text(order)), .init("demanded", .decimal(demanded)),
                    .init("waits", .decimal(waits)), .init("touches", .decimal(touches)),
                    .init("half", .decimal(half)), .init("seconds", .decimal(seconds)),
                ])
            )
        }
        return .list(rows)
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
    /// An object of numbers, and of lists of them.
    var numbers: JSON {
        switch self {
        case .object(let members):
            .object(members.sorted { $0.key < $1.key }.map { .init($0.key, $0.value.numbers) })
        case .array(let elements): .list(elements.map(\.numbers))
        default: .decimal(number ?? 0)
        }
    }
}
