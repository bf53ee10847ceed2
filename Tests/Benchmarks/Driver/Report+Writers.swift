// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import Glibc
internal import Paging
internal import Reporting
internal import TestSupport

// How much slower a writer is while it is tracked.
extension Report {
    /// A writer, by what it writes and by the pages of the kernel.
    private struct Writer {
        let name: String
        let words: [String]

        static let all = [
            Writer(name: "pages, small", words: ["page", "small"]),
            Writer(name: "words, small", words: ["word", "small"]),
            Writer(name: "pages, huge", words: ["page", "huge"]),
            Writer(name: "words, huge", words: ["word", "huge"]),
        ]
    }

    /// What a writer did in a while.
    private struct While {
        /// Pages, or words, a second.
        var rate: Double
        var seconds: Double
        /// Written pages that the rounds have found.
        var found = 0.0
        var rounds = 0
        var roundSeconds = 0.0

        /// What one page and round has cost the writer, when it would have written at the given rate; nil when nothing was found.
        func cost(against plain: Double) -> Double? {
            found > 0 ? max(0, seconds - rate * seconds / plain) / found : nil
        }
    }

    /// The same writer in one run.
    private struct Slowdown {
        var before: While
        var eachSecond: While
        var eachTenth: While
        var after: While
    }

    func measureWriters(_ plan: Plan) throws -> JSON {
        let mebibytes = plan.isQuick ? 64 : 256
        let table = Table(
            "A writer as fast as it can over \(mebibytes) MiB, any page each time, tracked with a round each second and each 100 ms",
            "      writer",
            "writes/s",
            "1 s %",
            "100 ms %",
            "after %",
            "1 s us/page",
            "100 ms us/page",
            "1 s round ms",
            "100 ms round ms"
        )
        var rows: [JSON] = []
        for writer in Writer.all {
            let runs = try (0..<plan.repetitions).map { _ in try slowdown(mebibytes, writer, plan) }
            let run = median(of: runs) { $0.eachTenth.rate / $0.before.rate }
            table.row(
                writer.name,
                decimal(run.before.rate, 0),
                percent(run.eachSecond.rate, of: run.before.rate),
                percent(run.eachTenth.rate, of: run.before.rate),
                percent(run.after.rate, of: run.before.rate),
                microseconds(run.eachSecond.cost(against: run.before.rate)),
                microseconds(run.eachTenth.cost(against: run.before.rate)),
                milliseconds(run.eachSecond.roundSeconds / Double(max(1, run.eachSecond.rounds)), 2),
                milliseconds(run.eachTenth.roundSeconds / Double(max(1, run.eachTenth.rounds)), 2)
            )
            rows.append(row(run, writer, mebibytes))
        }
        say(
            "%: of the rate before, in the same run; us/page: time lost by the writer for each written page that a round found"
        )
        return .list(rows)
    }

    private func slowdown(_ mebibytes: Int, _ writer: Writer, _ plan: Plan) throws -> Slowdown {
        let arguments = ["\(mebibytes)", "1", "write", "max", "random"] + writer.words
        return try withProcess(BuiltProduct.path("BenchmarkVictim"), arguments) { victim in
            try victim.waitForLine("ready")
            let alone = plan.isQuick ? 300 : 500
            _ = try observe(victim, nil, rounds: 1, every: .milliseconds(100))
            let before = try observe(victim, nil, rounds: 1, every: .milliseconds(alone))
            let strategy = try TrackerSupport.probe().strategy(for: .auto)
            let tracker = try WriteTracker.begin(
                victim.pid,
                strategy: strategy,
                scope: .privateAnonymous,
                timeout: .seconds(10)
            )
            _ = try tracker.round()
            let slow = try observe(victim, tracker, rounds: plan.isQuick ? 1 : 2, every: .seconds(1))
            let fast = try observe(victim, tracker, rounds: plan.isQuick ? 5 : 10, every: .milliseconds(100))
            tracker.end()
            let after = try observe(victim, nil, rounds: 1, every: .milliseconds(alone))
            victim.signal(SIGUSR1)
            let line = try victim.readLine()
            guard try JSONValue(parsing: line)["wrong"]?.integer == 0 else {
                throw TestFailure("WRONG PAGES in a tracked writer '\(writer.name)': \(line)")
            }
            return Slowdown(before: before, eachSecond: slow, eachTenth: fast, after: after)
        }
    }

    /// Whole intervals, each of which begins with a round.
    private func observe(
        _ victim: TestProcess,
        _ tracker: WriteTracker?,
        rounds: Int,
        every interval: Duration
    ) throws -> While {
        var result = While(rate: 0, seconds: 0)
        _ = try mark(victim)
        let clock = ContinuousClock()
        let began = clock.now
        for number in 1...rounds {
            if let tracker {
                let found = try tracker.round()
                // What the first one finds was written before.
                if number > 1 { result.found += Double(found.written.count) }
                result.rounds += 1
                result.roundSeconds += found.scanTime / .seconds(1)
            }
            sleep(began + interval * number - clock.now)
        }
        let line = try mark(victim)
        // Written since the last round; nobody but this one looks at it.
        if let tracker { result.found += Double(try tracker.round().written.count) }
        result.seconds = line["seconds"]?.number ?? 0
        result.rate = result.seconds > 0 ? (line["writes"]?.number ?? 0) / result.seconds : 0
        return result
    }

    private func mark(_ victim: TestProcess) throws -> JSONValue {
        victim.signal(SIGUSR2)
        return try JSONValue(parsing: try victim.readLine())
    }

    private func row(_ run: Slowdown, _ writer: Writer, _ mebibytes: Int) -> JSON {
        func figures(_ part: While) -> JSON {
            .object([
                .init("writesPerSecond", .decimal(part.rate)), .init("pagesFound", .whole(Int(part.found))),
                .init("part", .decimal(part.rate / run.before.rate)),
                .init("secondsPerPage", .time(part.cost(against: run.before.rate))),
                .init("secondsPerRound", .time(part.roundSeconds / Double(max(1, part.rounds)))),
            ])
        }
        return .object([
            .init("writer", .text(writer.name)), .init("mebibytes", .whole(mebibytes)),
            .init("before", figures(run.before)), .init("roundEachSecond", figures(run.eachSecond)),
            .init("roundEach100Milliseconds", figures(run.eachTenth)), .init("after", figures(run.after)),
        ])
    }

    private func microseconds(_ seconds: Double?) -> String {
        seconds.map { decimal($0 * 1_000_000, 2) } ?? "-"
    }
}
