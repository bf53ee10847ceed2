// SPDX-License-Identifier: Apache-2.0
import LinuxSystem
import Paging
import TestSupport
import Testing

@testable import Commands
@testable import DirtyTracking

/// What `thaw track` writes, from measurements that are made up.
@Suite(.serialized)
struct TrackOutputTests {
    private static let subject = TrackSubject(
        pid: 8731,
        name: "xz\u{1B}[2J",
        strategy: .writeProtectAsync,
        interval: .seconds(1),
        bandwidth: Bandwidth(bytesPerSecond: 0x1p30),
        present: 50_000,
        mappings: 3
    )

    private static func mapping(_ start: UInt64, _ name: String, _ written: UInt64, _ present: UInt64) -> MappingWrites
    {
        let range = AddressRange(VirtualAddress(start), VirtualAddress(start + present * PageSize.base))
        return MappingWrites(range: range, name: name, written: written, present: present)
    }

    private static let pages: [(written: UInt64, dropped: UInt64)] = [(12_345, 0), (0, 17), (3, 0), (50_000, 0)]

    private static let measurements: [WriteMeasurement] = pages.enumerated().map { index, pages in
        var measurement = WriteMeasurement()
        measurement.number = index + 1
        measurement.duration = .milliseconds(1002)
        measurement.written = pages.written
        measurement.dropped = pages.dropped
        measurement.present = 50_000
        measurement.scanTime = .microseconds(1234)
        measurement.mappings = [
            mapping(0x55e0_0000_0000, "[heap]", min(pages.written, 1), 300),
            mapping(0x7f00_0000_0000, "", pages.written - min(pages.written, 3), 49_000),
            mapping(0x7f80_0000_0000, "/lib/a\u{1B}b.so", min(pages.written, 2) - min(pages.written, 1), 700),
            mapping(0x7fff_0000_0000, "[stack]", min(pages.written, 1), 1),
        ]
        return measurement
    }

    private static func everything(_ renderer: some TrackRenderer, _ ending: TrackEnding, rounds: Int = 4) -> String {
        var summary = WriteSummary()
        var text = renderer.beginning(subject)
        for measurement in measurements.prefix(rounds) {
            summary.add(measurement)
            text += renderer.round(measurement, of: subject)
        }
        return text + renderer.end(ending, summary, of: subject)
    }

    @Test func textIsAsRecorded() throws {
        let plain = Self.everything(TrackText(picture: .ascii, mappingLimit: 0), .rounds)
        try Golden.expect(plain, "track-plain")
        #expect(plain.unicodeScalars.allSatisfy { $0.isASCII && ($0.value >= 0x20 || $0 == "\n") })
        let blocks = Self.everything(TrackText(picture: .blocks, mappingLimit: 2), .signal(.interrupt))
        try Golden.expect(blocks, "track-terminal")
        #expect(!blocks.contains("\u{1B}"))
    }

    @Test func rowsFitATerminal() {
        for measurement in Self.measurements {
            let row = TrackText(picture: .blocks, mappingLimit: 0).round(measurement, of: Self.subject)
            #expect(row.count <= 80, "\(row)")
        }
    }

    @Test func whateverEndsItIsSaid() {
        let text = TrackText(picture: .ascii, mappingLimit: 0)
        #expect(Self.everything(text, .rounds).contains("\nall rounds are done\n"))
        #expect(Self.everything(text, .signal(.hangup)).contains("\nended by SIGHUP\n"))
        #expect(Self.everything(text, .failure("what")).contains("\nended by a failure\n"))
        let gone = Self.everything(text, .process("process 8731 has ended"))
        #expect(gone.contains("\nprocess 8731 has ended\n") && !gone.contains("nothing of the tracker"))
        let none = Self.everything(text, .process("process 8731 has ended"), rounds: 0)
        #expect(none.hasSuffix("\nprocess 8731 has ended\n"))
        #expect(!Self.everything(text, .rounds, rounds: 1).contains("on average"))
    }

    @Test func preCopyOfAFastWriterIsSaidToGainNothing() {
        var slow = Self.subject
        slow.bandwidth = Bandwidth(bytesPerSecond: 1e6)
        var summary = WriteSummary()
        summary.add(Self.measurements[0])
        let text = TrackText(picture: .ascii, mappingLimit: 0).end(.rounds, summary, of: slow)
        #expect(text.contains("takes 205 s and gains nothing: the process writes faster than can be sent"), "\(text)")
    }

    @Test func jsonIsAsRecorded() throws {
        var json = TrackJSON(listsMappings: false)
        json.now = { .seconds(1_795_995_992) + .nanoseconds(5) }
        let text = Self.everything(json, .process("process 8731 has ended"))
        try Golden.expect(text, "track-json")
    }

    @Test func jsonHasTheMembersOfItsArticle() throws {
        let article = try readText("\(BuiltProduct.package)/Sources/Commands/Documentation.docc/CommandLine.md")
        let lines = Self.everything(TrackJSON(listsMappings: true), .rounds, rounds: 1).split(separator: "\n")
        #expect(lines.count == 3)
        for line in lines {
            for name in Self.names(of: try JSONValue(parsing: String(line))) where name != "state" {
                #expect(article.contains("`\(name)`"), "\(name) is not in the article")
            }
        }
    }

    @Test func mappingsAreListedOnlyWhenAskedForAndWritten() throws {
        let round = Self.measurements[2]
        let without = try JSONValue(parsing: TrackJSON(listsMappings: false).round(round, of: Self.subject))
        #expect(without["mappings"] == nil)
        let with = try JSONValue(parsing: TrackJSON(listsMappings: true).round(round, of: Self.subject))
        let mappings = try #require(with["mappings"]?.array)
        #expect(mappings.count == 3 && mappings.allSatisfy { ($0["written"]?.integer ?? 0) > 0 })
    }

    private static func names(of value: JSONValue) -> [String] {
        switch value {
        case .object(let members): members.flatMap { [$0.key] + names(of: $0.value) }
        case .array(let elements): elements.flatMap(names)
        default: []
        }
    }
}
