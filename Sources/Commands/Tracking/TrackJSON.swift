// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import LinuxSystem
internal import Paging
internal import Reporting

/// One object a line, for programs; the article on the command line lists the members.
struct TrackJSON: TrackRenderer {
    /// Whether mappings are listed.
    let listsMappings: Bool
    /// Time since 1970.
    var now: @Sendable () -> Duration = {
        let time = WallTime.now
        return .seconds(time.seconds) + .nanoseconds(Int64(time.nanoseconds))
    }

    func beginning(_ subject: TrackSubject) -> String {
        line(
            "tracking",
            [
                .init("pid", .integer(Int64(subject.pid))),
                .init("name", .text(subject.name)),
                .init("tracker", .text(subject.strategy.rawValue)),
                .init("interval", .seconds(subject.interval)),
                .init("bandwidth", Self.whole(subject.bandwidth.bytesPerSecond)),
                .init("pageSize", .unsigned(PageSize.base)),
                .init("pages", .object([.init("present", .unsigned(subject.present))])),
            ]
        )
    }

    func round(_ measurement: WriteMeasurement, of subject: TrackSubject) -> String {
        var members: [JSON.Member] = [
            .init("round", .integer(Int64(measurement.number))),
            .init("seconds", .seconds(measurement.duration)),
            .init(
                "pages",
                .object([
                    .init("written", .unsigned(measurement.written)),
                    .init("dropped", .unsigned(measurement.dropped)),
                    .init("present", .unsigned(measurement.present)),
                ])
            ),
            .init("bytesPerSecond", Self.whole(measurement.bytesPerSecond)),
            .init("percent", .decimal(measurement.share * 100)),
            .init("pause", Self.pause(measurement, subject.estimate)),
            .init("scan", .seconds(measurement.scanTime)),
        ]
        if listsMappings {
            members.append(.init("mappings", .list(measurement.mappings.filter { $0.written > 0 }.map(Self.mapping))))
        }
        return line("round", members)
    }

    func end(_ ending: TrackEnding, _ summary: WriteSummary, of subject: TrackSubject) -> String {
        let message: JSON =
            switch ending {
            case .rounds, .output: .null
            case .signal(let signal): .text(signal.description)
            case .process(let words), .failure(let words): .text(words)
            }
        let rates: [JSON.Member] = [
            .init("average", Self.whole(summary.bytesPerSecond)),
            .init("highest", Self.whole(summary.fastest.bytesPerSecond)),
        ]
        let pauses: [JSON.Member] = [
            .init("average", Self.pause(summary.average, subject.estimate)),
            .init("highest", Self.pause(summary.largest, subject.estimate)),
        ]
        return line(
            "ended",
            [
                .init("reason", .text(ending.reason)),
                .init("message", message),
                .init("rounds", .integer(Int64(summary.count))),
                .init("seconds", .seconds(summary.duration)),
                .init("bytesPerSecond", .object(rates)),
                .init("pause", .object(pauses)),
            ]
        )
    }

    private func line(_ state: String, _ members: [JSON.Member]) -> String {
        JSON.object([.init("state", .text(state))] + members + [.init("time", .seconds(now()))]).line + "\n"
    }

    private static func pause(_ measurement: WriteMeasurement, _ estimate: PauseEstimate) -> JSON {
        .object([
            .init("interval", .seconds(estimate.afterInterval(measurement))),
            .init("preCopy", .seconds(estimate.afterCopy(measurement))),
        ])
    }

    private static func mapping(_ mapping: MappingWrites) -> JSON {
        .object([
            .init("range", .text("\(mapping.range)")),
            .init("name", .text(mapping.name)),
            .init("written", .unsigned(mapping.written)),
            .init("present", .unsigned(mapping.present)),
        ])
    }

    private static func whole(_ number: Double) -> JSON {
        .unsigned(UInt64(max(0, min(number.rounded(), 0x1p63))))
    }
}
