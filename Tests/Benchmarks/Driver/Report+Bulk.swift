// SPDX-License-Identifier: Apache-2.0
internal import Reporting
internal import TestSupport

// What is measured next to the floor: the stream.
extension Report {
    /// The smaller size more often: memory that the host of a virtual machine has to find first makes the larger one slow now and then.
    func measureBulk(_ plan: Plan) throws -> JSON {
        let sizes = plan.isQuick ? [(1024, 1)] : [(1024, 7), (4096, plan.repetitions)]
        return .list(try sizes.map { try measureBulk(mebibytes: $0, times: $1) })
    }

    private static let smallMebibytes = 16

    private func measureBulk(mebibytes: Int, times: Int) throws -> JSON {
        let pages = "\(mebibytes * 256)"
        // The first run touches memory that the machine may have to find first.
        _ = try measureFloor(["bulk", pages])
        // Asleep, since nothing of the floor keeps a CPU busy besides its stream.
        let one = Move.Request(arguments: ["\(mebibytes)", "1", "gap", "asleep"])
        var several = one
        several.options += ["--streams", "4"]
        func floor(_ modes: [String]) throws -> StreamFigures {
            StreamFigures(ofFloor: try measureFloor(["bulk", pages] + modes))
        }
        let start = try measureStart()
        func thaw(_ request: Move.Request) throws -> StreamFigures {
            let move = try Move(request)
            let gibibytes = Double(mebibytes - Self.smallMebibytes) / 1024
            return StreamFigures(
                speed: move.speed,
                sourceCPU: (move.pageServer.seconds - start.server) / gibibytes,
                destinationCPU: (move.restorer.seconds - start.restorer) / gibibytes
            )
        }
        let ways: [(name: String, measure: () throws -> StreamFigures)] = [
            ("floor", { try floor([]) }), ("floor, without TLS", { try floor(["tcp"]) }), ("thaw", { try thaw(one) }),
            ("thaw, 4 streams", { try thaw(several) }),
        ]
        var runs = [[StreamFigures]](repeating: [], count: ways.count)
        for _ in 0..<times {
            for (index, way) in ways.enumerated() { runs[index].append(try way.measure()) }
        }
        let table = Table(
            "The stream of \(mebibytes) MiB, \(times) times in turns; CPU seconds for each GiB",
            "                  ",
            "MiB/s",
            "fastest",
            "source CPU",
            "least",
            "destination CPU",
            "least"
        )
        let medians = runs.map(StreamFigures.median)
        let bests = runs.map(StreamFigures.best)
        for (index, way) in ways.enumerated() { Self.row(way.name, medians[index], bests[index], table) }
        let without = "\(decimal(start.server, 2)) and \(decimal(start.restorer, 2)) s of CPU"
        say("without what a move of \(Self.smallMebibytes) MiB costs: \(without)")
        say("thaw to the floor: \(medians[2].ratios(to: medians[0]))")
        say("the best of each: \(bests[2].ratios(to: bests[0]))")
        let rows = ways.indices.map { index in
            JSON.Member(
                ways[index].name,
                .object([.init("median", medians[index].json), .init("best", bests[index].json)])
            )
        }
        return .object([.init("mebibytes", .whole(mebibytes))] + rows)
    }

    /// CPU seconds of both programs that are no stream: they start, shake hands, and build a process.
    private func measureStart() throws -> (server: Double, restorer: Double) {
        let moves = try (0..<3).map { _ in
            try Move(.init(arguments: ["\(Self.smallMebibytes)", "1", "gap", "asleep"]))
        }
        return (moves.map(\.pageServer.seconds).sorted()[1], moves.map(\.restorer.seconds).sorted()[1])
    }

    private static func row(_ name: String, _ median: StreamFigures, _ best: StreamFigures, _ table: Table) {
        table.row(
            name,
            decimal(median.speed, 0),
            decimal(best.speed, 0),
            decimal(median.sourceCPU, 2),
            decimal(best.sourceCPU, 2),
            decimal(median.destinationCPU, 2),
            decimal(best.destinationCPU, 2)
        )
    }
}

/// What a stream came to: MiB a second, and CPU seconds of both sides for each GiB.
private struct StreamFigures {
    var speed: Double
    var sourceCPU: Double
    var destinationCPU: Double

    init(ofFloor says: JSONValue) {
        func figure(_ name: String) -> Double { says[name]?.number ?? 0 }
        (speed, sourceCPU, destinationCPU) = (
            figure("mebibytesPerSecond"), figure("sourceCPU"), figure("destinationCPU")
        )
    }

    init(speed: Double, sourceCPU: Double, destinationCPU: Double) {
        (self.speed, self.sourceCPU, self.destinationCPU) = (speed, sourceCPU, destinationCPU)
    }

    /// The middle of each figure.
    static func median(of runs: [StreamFigures]) -> StreamFigures {
        func middle(_ figure: (StreamFigures) -> Double) -> Double { runs.map(figure).sorted()[runs.count / 2] }
        var result = runs[0]
        (result.speed, result.sourceCPU) = (middle(\.speed), middle(\.sourceCPU))
        result.destinationCPU = middle(\.destinationCPU)
        return result
    }

    /// The best of each figure.
    static func best(of runs: [StreamFigures]) -> StreamFigures {
        var result = runs[0]
        for run in runs {
            result.speed = max(result.speed, run.speed)
            result.sourceCPU = min(result.sourceCPU, run.sourceCPU)
            result.destinationCPU = min(result.destinationCPU, run.destinationCPU)
        }
        return result
    }

    func ratios(to other: StreamFigures) -> String {
        "\(decimal(speed / max(0.001, other.speed), 2)) x its speed, \(decimal(sourceCPU / max(0.001, other.sourceCPU), 2)) and "
            + "\(decimal(destinationCPU / max(0.001, other.destinationCPU), 2)) x its CPU"
    }

    var json: JSON {
        .list([.decimal(speed), .decimal(sourceCPU), .decimal(destinationCPU)])
    }
}
