// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import Paging

/// Rows of a table, for people.
struct TrackText: TrackRenderer {
    let picture: Picture
    /// Most mappings that are listed below a round.
    let mappingLimit: Int

    private static let mebibyte = Double(1 << 20)
    /// Columns of the bar beside a round, and beside a mapping.
    private static let barWidth = 20
    private static let smallBarWidth = 10

    func beginning(_ subject: TrackSubject) -> String {
        let tracker =
            subject.strategy == .none
            ? "writes are not tracked: all pages count as written" : "writes are tracked by \(subject.strategy.word)"
        return """
            process \(subject.pid) (\(subject.name.printable)) holds \(Self.size(subject.present)) in \(subject.mappings) mappings; \
            \(tracker)
            a round every \(Figures.seconds(subject.interval)); pause: to send what a round has found, at \(subject.bandwidth)
             round      pages       MiB     MiB/s   share     pause

            """
    }

    func round(_ measurement: WriteMeasurement, of subject: TrackSubject) -> String {
        let columns = [
            "\(measurement.number)".right(6),
            "\(measurement.written)".right(10),
            Figures.decimal(Double(measurement.writtenBytes) / Self.mebibyte).right(9),
            Figures.decimal(measurement.bytesPerSecond / Self.mebibyte).right(9),
            Figures.percent(measurement.share).right(7),
            Figures.duration(subject.estimate.afterInterval(measurement)).right(9),
        ]
        let bar = picture.bar(measurement.share, width: Self.barWidth)
        return (columns.joined(separator: " ") + (bar.isEmpty ? "" : "  " + bar)) + "\n" + mappings(of: measurement)
    }

    private func mappings(of measurement: WriteMeasurement) -> String {
        guard mappingLimit > 0 else { return "" }
        // Of those that were written equally the lower one first: the order in which they come.
        let written = measurement.mappings.filter { $0.written > 0 }.sorted { $0.written > $1.written }
        var text = ""
        for mapping in written.prefix(mappingLimit) {
            let share = Double(mapping.written) / Double(max(mapping.written, mapping.present))
            let columns = [
                "\(mapping.written)".right(17),
                Figures.decimal(Double(mapping.written * PageSize.base) / Self.mebibyte).right(9),
                picture.bar(share, width: Self.smallBarWidth).left(Self.smallBarWidth),
                "\(mapping.range) \(mapping.name.printable)",
            ]
            text += columns.joined(separator: " ").trimmingBlanks + "\n"
        }
        let others = written.dropFirst(mappingLimit)
        if !others.isEmpty {
            let pages = others.reduce(0) { $0 + $1.written }
            text +=
                "\(pages)".right(17) + " " + Figures.decimal(Double(pages * PageSize.base) / Self.mebibyte).right(9)
                + " in \(others.count) more mappings\n"
        }
        return text
    }

    func end(_ ending: TrackEnding, _ summary: WriteSummary, of subject: TrackSubject) -> String {
        var lines = [Self.words(ending)]
        if summary.count > 0 {
            lines += Self.rates(summary)
            if summary.count > 1 { lines.append("MiB/s over time: \(picture.sparkline(summary.history.values))") }
            lines += Self.pauses(summary, subject)
        }
        lines.append("nothing of the tracker is left in process \(subject.pid)")
        if case .process = ending { lines.removeLast() }
        return "\n" + lines.joined(separator: "\n") + "\n"
    }

    private static func words(_ ending: TrackEnding) -> String {
        switch ending {
        case .rounds: "all rounds are done"
        case .signal(let signal): "ended by \(signal)"
        case .output: "ended, as nobody reads on"
        case .process(let words): words
        case .failure: "ended by a failure"
        }
    }

    private static func rates(_ summary: WriteSummary) -> [String] {
        func rate(_ bytes: Double) -> String { Figures.decimal(bytes / mebibyte) + " MiB/s" }
        let rounds = summary.count == 1 ? "1 round" : "\(summary.count) rounds"
        let average = "\(rounds) in \(Figures.duration(summary.duration)): written \(rate(summary.bytesPerSecond))"
        guard summary.count > 1 else { return [average] }
        let highest = summary.fastest
        return ["\(average) on average, \(rate(highest.bytesPerSecond)) at most (round \(highest.number))"]
    }

    private static func pauses(_ summary: WriteSummary, _ subject: TrackSubject) -> [String] {
        let estimate = subject.estimate
        let average = summary.average
        var pause = Figures.duration(estimate.afterInterval(average))
        if summary.count > 1 {
            pause += " on average, \(Figures.duration(estimate.afterInterval(summary.largest))) at most"
        }
        return ["pause to send what one interval leaves, at \(subject.bandwidth): \(pause)", preCopy(average, subject)]
    }

    private static func preCopy(_ average: WriteMeasurement, _ subject: TrackSubject) -> String {
        let estimate = subject.estimate
        let whole = estimate.sending(pages: average.present)
        let copy = "pre-copy of all \(size(average.present)) takes \(Figures.duration(whole))"
        guard average.bytesPerSecond < subject.bandwidth.bytesPerSecond else {
            return copy + " and gains nothing: the process writes faster than can be sent"
        }
        let left = estimate.pagesLeftByCopy(average)
        let text =
            copy + " and leaves at most \(size(left)): a pause of \(Figures.duration(estimate.afterCopy(average)))"
        // The same pages may have been written again and again, which only a look after that time shows.
        guard left > 0, whole < average.duration / 2, whole >= .milliseconds(2) else { return text }
        return text + "\n  (--interval \(Figures.decimal(whole / .seconds(1), digits: 3)) tells how much less)"
    }

    private static func size(_ pages: UInt64) -> String {
        Figures.bytes(Double(pages * PageSize.base))
    }
}

extension String {
    /// Without blanks at its end.
    fileprivate var trimmingBlanks: String {
        String(reversed().drop { $0 == " " }.reversed())
    }
}
