// SPDX-License-Identifier: Apache-2.0
internal import BenchmarkPictures
internal import Reporting
internal import TestSupport

// How a program that people use gets on with its work while it is moved.
extension Report {
    func measureApplication(_ plan: Plan) throws -> JSON {
        let mebibytes = plan.isQuick ? 64 : 512
        let table = Table(
            "SQLite with \(mebibytes) MiB of rows, one operation in ten writes, moved while it works",
            "           way",
            "operations/s",
            "freeze to run ms",
            "lowest %",
            "90 % after s",
            "resident s",
            "seconds lost"
        )
        var rows: [JSON] = []
        for (way, options) in [("post-copy", ["--no-pre-copy"]), ("with pre-copy", [])] {
            let runs = try (0..<plan.repetitions).map { _ in
                try ApplicationRun(mebibytes: mebibytes, updates: 10, options: options)
            }
            let run = median(of: runs) { $0.lostSeconds }
            let pause = (run.moments["running"] ?? 0) - (run.moments["frozen"] ?? run.moments["running"] ?? 0)
            table.row(
                way,
                decimal(run.undisturbed, 0),
                milliseconds(pause),
                decimal(run.lowestShare * 100, 0),
                run.recovery.map { decimal($0, 2) } ?? "-",
                decimal(run.moments["resident"] ?? 0, 2),
                decimal(run.lostSeconds, 2)
            )
            if let folder = plan.pictures { try draw(run, way, folder) }
            rows.append(row(run, way, runs.map(\.lostSeconds)))
        }
        say("lost: of undisturbed work, from the start of the restorer until a second after everything is there")
        return .list(rows)
    }

    private func draw(_ run: ApplicationRun, _ way: String, _ folder: String) throws {
        func marks(_ shift: Double) -> [Chart.Mark] {
            ["frozen", "running", "resident"].compactMap { state in
                run.moments[state].map { Chart.Mark(state, at: $0 + shift) }
            }
        }
        let shift = Self.shift(of: run)
        // Memory begins to arrive when the process is frozen.
        let freeze = -(run.moments["frozen"] ?? 0)
        let rates = run.intervals.flatMap { interval in
            // A step: it worked at this rate from the start of the interval on.
            [(interval.end - interval.seconds + shift, interval.rate), (interval.end + shift, interval.rate)]
        }
        let name = way.split(separator: " ").joined(separator: "-")
        try writeFile(
            "\(folder)/application-\(name).svg",
            Chart(
                "SQLite, moved \(way)",
                x: .init("seconds"),
                y: .init("operations a second"),
                [.init("operations a second, by intervals of 100 ms", rates.map { (x: $0.0, y: $0.1) })],
                marks: marks(shift)
            ).svg
        )
        try writeFile(
            "\(folder)/residency-\(name).svg",
            Chart(
                "Memory of the copy, moved \(way)",
                x: .init("seconds after the freeze"),
                y: .init("MiB resident"),
                [.init("resident", run.residency.map { (x: max(0, $0.x + freeze), y: $0.y) })],
                marks: marks(freeze)
            ).svg
        )
    }

    /// Axes begin at zero: with what it did before.
    private static func shift(of run: ApplicationRun) -> Double {
        -min(0, run.intervals.first.map { $0.end - $0.seconds } ?? 0)
    }

    private func row(_ run: ApplicationRun, _ way: String, _ lost: [Double]) -> JSON {
        .object([
            .init("way", .text(way)), .init("operationsPerSecond", .decimal(run.undisturbed)),
            .init("lostSeconds", .list(lost.map(JSON.decimal))), .init("lowestShare", .decimal(run.lowestShare)),
            .init("recovery", .time(run.recovery)),
            .init("moments", .object(run.moments.sorted { $0.key < $1.key }.map { .init($0.key, .decimal($0.value)) })),
            .init(
                "intervals",
                .list(run.intervals.map { .list([.decimal($0.end), .decimal($0.rate)]) })
            ),
        ])
    }
}
