// SPDX-License-Identifier: Apache-2.0
internal import Reporting
internal import TestSupport

// Moves of a process that writes, by all ways; and how the pause of a hybrid move depends on the size.
extension Report {
    /// When pages are sent.
    private enum Way: String, CaseIterable {
        /// After the process runs at the destination.
        case postCopy = "post-copy"
        /// Before it runs there: in rounds while it runs at the source, the rest while it is frozen.
        case preCopy = "pre-copy"
        /// In rounds, and the rest after it runs at the destination: the default.
        case hybrid

        var options: [String] {
            switch self {
            case .postCopy: ["--no-pre-copy"]
            case .preCopy: ["--eager"]
            case .hybrid: []
            }
        }
    }

    /// What the victim does.
    private struct Writer {
        let name: String
        /// MiB a second.
        let rate: Double
        /// Words for the victim.
        let words: [String]

        /// Any page each time.
        static func random(_ rate: Int) -> Writer {
            Writer(name: "\(rate)", rate: Double(rate), words: ["\(rate)", "random", "page", "small"])
        }

        /// Every tenth page each second, all over the memory.
        static func tenth(of mebibytes: Int) -> Writer {
            let rate = Double(mebibytes) / 10
            return Writer(name: "10 %", rate: rate, words: [decimal(rate), "walk", "page", "small"])
        }
    }

    /// How long the writer runs before its move, and after everything has arrived.
    private static let settling = Duration.milliseconds(200)
    private static let afterwards = Duration.milliseconds(100)

    func measureMoves(_ plan: Plan) throws -> JSON {
        let mebibytes = plan.isQuick ? 256 : 1024
        let rates = plan.isQuick ? [0, 256, 1024] : [0, 64, 128, 256, 512, 1024]
        let table = Table(
            "Moves of \(mebibytes) MiB of which some are written, by way and by MiB written a second",
            "MiB/s",
            "      way",
            "pause ms",
            "gap ms",
            "rounds",
            "sent %",
            "kept %",
            "bytes/size",
            "remote %",
            "resident s",
            "move s",
            "server MiB",
            "restorer MiB"
        )
        var rows: [JSON] = []
        var goal: Double?
        for writer in rates.map(Writer.random) + [.tenth(of: mebibytes)] {
            for way in Way.allCases {
                let moves = try (0..<plan.repetitions).map { _ in try Move(request(mebibytes, writer.words, way)) }
                let move = median(of: moves) { $0.pause }
                table.row(
                    writer.name,
                    way.rawValue,
                    milliseconds(move.pause),
                    milliseconds(move.gap),
                    "\(move.rounds)",
                    percent(move.sentAhead, of: move.pages),
                    percent(move.preCopied, of: move.pages),
                    decimal(move.bytesOverSize, 3),
                    percent(move.remoteFaults, of: move.pages),
                    decimal(move.timeToResident, 2),
                    decimal(move.duration / .seconds(1), 2),
                    decimal(Double(move.pageServerPeak) / 1024),
                    decimal(Double(move.restorerPeak) / 1024)
                )
                if way == .hybrid, writer.name == "10 %" { goal = move.pause }
                rows.append(row(move, mebibytes, writer.rate, way, moves.map(\.pause)))
            }
        }
        say(
            """
            pause: freeze to first instruction, by thaw; gap: the longest time in which the writer did nothing
            percent of the pages of the process: sent in rounds; kept: of those, not written after that; remote: a thread \
            waited for them from the source
            a tenth rewritten each second, hybrid: \(milliseconds(goal)) ms (goal: 20)
            """
        )
        return .list(rows)
    }

    /// Whether the pause of a hybrid move grows with memory.
    func measureSizes(_ plan: Plan) throws -> JSON {
        let table = Table(
            "Freeze to first instruction of hybrid moves by size; nothing is written",
            "       memory",
            "pause ms",
            "gap ms",
            "kept %",
            "remote %",
            "resident s",
            "move s",
            "server MiB",
            "restorer MiB"
        )
        let dense = (plan.isQuick ? [64, 256] : [64, 256, 1024, 4096]).map { mebibytes in
            ("\(mebibytes) MiB", request(mebibytes, ["0", "random", "page", "small"], .hybrid))
        }
        // 1000 pages, spread all over.
        let sparse = [1, 16].map { tebibytes in
            (
                "\(tebibytes) TiB sparse",
                Move.Request(program: "TrackingFloor", arguments: ["sparse", "\(tebibytes << 10)"], options: [])
            )
        }
        var rows: [JSON] = []
        var pauses: [Double] = []
        for (name, request) in dense + sparse {
            let moves = try (0..<plan.repetitions).map { _ in try Move(request) }
            let move = median(of: moves) { $0.pause }
            pauses.append(move.pause)
            table.row(
                name,
                milliseconds(move.pause),
                milliseconds(move.gap),
                percent(move.preCopied, of: move.pages),
                percent(move.remoteFaults, of: move.pages),
                decimal(move.timeToResident, 2),
                decimal(move.duration / .seconds(1), 2),
                decimal(Double(move.pageServerPeak) / 1024),
                decimal(Double(move.restorerPeak) / 1024)
            )
            rows.append(.object([.init("memory", .text(name))] + figures(move, moves.map(\.pause))))
        }
        say(
            "the pause of the largest dense one is \(decimal(pauses[dense.count - 1] / pauses[0], 2)) times the smallest's"
        )
        return .list(rows)
    }

    private func request(_ mebibytes: Int, _ words: [String], _ way: Way) -> Move.Request {
        Move.Request(
            arguments: ["\(mebibytes)", "1", "write"] + words,
            ending: .signal(after: Self.afterwards),
            options: way.options,
            settling: Self.settling
        )
    }

    private func row(_ move: Move, _ mebibytes: Int, _ rate: Double, _ way: Way, _ pauses: [Double]) -> JSON {
        .object(
            [
                .init("way", .text(way.rawValue)), .init("mebibytes", .whole(mebibytes)),
                .init("mebibytesWrittenPerSecond", .decimal(rate)),
                .init("undisturbed", Self.writing(move.victimSaid)), .init("moved", Self.writing(move.victimSays)),
            ] + figures(move, pauses)
        )
    }

    private func figures(_ move: Move, _ pauses: [Double]) -> [JSON.Member] {
        [
            .init("pause", .time(move.pause)), .init("pauses", .list(pauses.map(JSON.time))),
            .init("gap", .time(move.gap)), .init("rounds", .whole(move.rounds)),
            .init(
                "pages",
                .object([
                    .init("total", .whole(Int(move.pages))), .init("sentAhead", .whole(Int(move.sentAhead))),
                    .init("preCopied", .whole(Int(move.preCopied))),
                    .init("remoteFaults", .whole(Int(move.remoteFaults))),
                ])
            ),
            .init("bytesOverSize", .decimal(move.bytesOverSize)), .init("longestWait", .time(move.longestWait)),
            .init("timeToResident", .time(move.timeToResident)),
            .init("duration", .seconds(move.duration)), .peaks(of: move),
        ]
    }

    /// What a writer says of a time: how fast it really wrote, and its longest gap.
    private static func writing(_ words: JSONValue?) -> JSON {
        let seconds = words?["seconds"]?.number ?? 0
        let mebibytes = (words?["writes"]?.number ?? 0) / 256
        return .object([
            .init("mebibytesPerSecond", .decimal(seconds > 0 ? mebibytes / seconds : 0)),
            .init("gap", .time(words?["gap"]?.number)),
        ])
    }
}

extension Move {
    /// Rounds of pre-copy.
    var rounds: Int { destination["preCopyRounds"]?.array?.count ?? 0 }
    /// Pages that were sent in rounds.
    var sentAhead: Double { (destination["preCopyRounds"]?.array ?? []).reduce(0) { $0 + ($1["pages"]?.number ?? 0) } }
    /// Pages that were sent in rounds and had not changed at the freeze.
    var preCopied: Double { destination["pages"]?["preCopied"]?.number ?? 0 }
    /// Pages that a thread waited for from the source.
    var remoteFaults: Double { destination["pages"]?["demanded"]?.number ?? 0 }
    /// The longest time in seconds that a thread waited for a page, from the source or from here.
    var longestWait: Double? { destination["faults"]?["latency"]?["max"]?.number }
    /// Pages of the process.
    var pages: Double { destination["pages"]?["total"]?.number ?? 0 }
    /// Everything that the source has sent, by the size of the process.
    var bytesOverSize: Double { pages > 0 ? (source["bytes"]?["sent"]?.number ?? 0) / (pages * 4096) : 0 }
}
