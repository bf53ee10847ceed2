// SPDX-License-Identifier: Apache-2.0
internal import Reporting
internal import TestSupport

// Post-copy of a process that reads the clock: the pause against size and number of threads.
extension Report {
    /// A process whose pause is measured.
    private struct PauseCase {
        var mebibytes: Int
        var threads: Int
        /// Address space besides that is hardly used.
        var tebibytes = 0
        /// Whether it is a shared mapping, or has one page in 64.
        var kind = Kind.private

        enum Kind: String {
            case `private`, shared, sparse
        }

        var arguments: [String] {
            let last = kind != .private ? kind.rawValue : tebibytes > 0 ? "\(tebibytes)" : nil
            return ["\(mebibytes)", "\(threads)", "gap"] + (last.map { [$0] } ?? [])
        }
    }

    private static func pauseCases(_ plan: Plan) -> [PauseCase] {
        let usual = (plan.isQuick ? [64, 1024] : [64, 1024, 4096]).flatMap { mebibytes in
            (plan.isQuick ? [1, 16] : mebibytes > 1024 ? [1, 64] : [1, 16, 64]).map { threads in
                PauseCase(mebibytes: mebibytes, threads: threads)
            }
        }
        let large = plan.isQuick ? [] : [PauseCase(mebibytes: 8192, threads: 1)]
        return usual + large + [
            PauseCase(mebibytes: 64, threads: 1, tebibytes: 16),
            PauseCase(mebibytes: 1024, threads: 1, kind: .shared),
            PauseCase(mebibytes: 65536, threads: 1, kind: .sparse),
        ]
    }

    func measurePause(_ plan: Plan) throws -> JSON {
        let table = Table(
            "Freeze to first instruction, and what the restore cost",
            "   MiB",
            "memory",
            "+ TiB",
            "threads",
            "pause ms",
            "gap ms",
            "resident s",
            "MiB/s",
            "server MiB",
            "restorer MiB"
        )
        var rows: [JSON] = []
        for each in Self.pauseCases(plan) {
            let moves = try (0..<plan.repetitions).map { _ in try Move(.init(arguments: each.arguments)) }
            let move = median(of: moves) { $0.pause }
            table.row(
                "\(each.mebibytes)",
                each.kind.rawValue,
                "\(each.tebibytes)",
                "\(each.threads)",
                milliseconds(move.pause),
                milliseconds(move.gap),
                decimal(move.timeToResident, 2),
                decimal(move.speed, 0),
                decimal(Double(move.pageServerPeak) / 1024),
                decimal(Double(move.restorerPeak) / 1024)
            )
            rows.append(
                .object([
                    .init("mebibytes", .whole(each.mebibytes)), .init("kind", .text(each.kind.rawValue)),
                    .init("tebibytesReserved", .whole(each.tebibytes)),
                    .init("threads", .whole(each.threads)),
                    .init("pause", .time(move.pause)), .init("gap", .time(move.gap)),
                    .init("timeToResident", .time(move.timeToResident)),
                    .init("mebibytesPerSecond", .decimal(move.speed)), .peaks(of: move),
                ])
            )
        }
        say("pause: as thaw measures it; gap: the longest time between two readings of the clock by the victim itself")
        say("sparse: one page in 64 is there")
        say("+ TiB: reserved besides, with 64 pages of each TiB touched")
        return .list(rows)
    }
}

extension Move {
    /// Freeze to first instruction in seconds, as the restorer measures it.
    var pause: Double { destination["pause"]?.number ?? -1 }
    /// The longest time in seconds in which the victim did nothing; nil when it does not measure that.
    var gap: Double? { victimSays["gap"]?.number }
    /// Freeze to everything there in seconds.
    var timeToResident: Double { destination["timeToResident"]?.number ?? -1 }
    /// MiB a second that arrived from the first restored instruction until everything was there.
    var speed: Double {
        let bytes = destination["bytes"]?["received"]?.number ?? 0
        let seconds = timeToResident - pause
        return seconds > 0 ? bytes / 1_048_576 / seconds : 0
    }
}
