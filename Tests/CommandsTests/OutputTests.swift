// SPDX-License-Identifier: Apache-2.0
import LazyRestore
import LinuxSystem
import Logging
import Testing

@testable import Commands

@Suite
struct TimestampTests {
    @Test(arguments: [
        (0, "1970-01-01T00:00:00.007Z"),
        (951_782_399, "2000-02-28T23:59:59.007Z"),
        (951_782_400, "2000-02-29T00:00:00.007Z"),
        (1_767_225_599, "2025-12-31T23:59:59.007Z"),
        (1_709_251_200, "2024-03-01T00:00:00.007Z"),
        (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        (-1, "1969-12-31T23:59:59.007Z"),
    ])
    func followsTheCalendar(seconds: Int64, text: String) {
        #expect(Timestamp.text(.seconds(seconds) + .milliseconds(7)) == text)
    }
}

@Suite
struct LogEntryTests {
    private static let metadata: Logger.Metadata = ["peer": "a b", "bytes": "12", "empty": ""]

    @Test
    func textQuotesWhatHasBlanks() {
        let entry = StandardErrorLogHandler.entry(
            format: .text,
            time: .zero,
            level: .notice,
            message: "Connected.",
            metadata: Self.metadata
        )
        #expect(entry == "1970-01-01T00:00:00.000Z notice Connected. bytes=12 empty=\"\" peer=\"a b\"\n")
    }

    @Test
    func jsonIsOneObjectALine() {
        let entry = StandardErrorLogHandler.entry(
            format: .json,
            time: .milliseconds(1500),
            level: .error,
            message: "No \"page\"\nserver.",
            metadata: Self.metadata
        )
        let expected =
            #"{"time":1.500000000,"level":"error","message":"No \"page\"\nserver.","bytes":"12","empty":"","peer":"a b"}"#
        #expect(entry == expected + "\n")
    }
}

@Suite
struct ProgressTests {
    private static func progress(_ resident: UInt64, of total: UInt64, after elapsed: Duration) -> RestoreProgress {
        var progress = RestoreProgress()
        progress.residentPages = resident
        progress.totalPages = total
        progress.bytesReceived = resident * 4096
        progress.faults = resident / 100
        progress.elapsed = elapsed
        return progress
    }

    @Test
    func beforeThePageMapThereIsNoShare() {
        var estimate = ProgressEstimate()
        #expect(estimate.text(for: RestoreProgress()) == "running; waiting for the list of pages")
    }

    @Test
    func speedAndTimeLeftFollowFromTheCounters() {
        var estimate = ProgressEstimate()
        let text = estimate.text(for: Self.progress(25_600, of: 102_400, after: .seconds(1)))
        #expect(text == "resident 25.0 % · 100.0 MiB/s · 256 faults/s · 3 s left")
    }

    @Test
    func aHundredPercentIsSaidOnlyWhenNothingIsOwed() {
        var estimate = ProgressEstimate()
        let almost = estimate.text(for: Self.progress(999_999, of: 1_000_000, after: .seconds(10)))
        #expect(almost.hasPrefix("resident 99.9 % "))
        let all = estimate.text(for: Self.progress(1_000_000, of: 1_000_000, after: .seconds(11)))
        #expect(all.hasPrefix("resident 100.0 % "))
        #expect(!all.contains("left"))
    }

    @Test
    func aClockThatStandsStillChangesNoSpeed() {
        var estimate = ProgressEstimate()
        let first = estimate.text(for: Self.progress(25_600, of: 102_400, after: .seconds(1)))
        let second = estimate.text(for: Self.progress(25_600, of: 102_400, after: .seconds(1)))
        #expect(first == second)
    }

    @Test
    func logEntriesScrollAboveTheLine() {
        let written = Lock<[String]>([])
        let line = ProgressLine { text in written.withLock { $0.append(text) } }
        line.writeAbove("before\n")
        line.show(RestoreProgress())
        line.writeAbove("during\n")
        var last = RestoreProgress()
        last.isLast = true
        line.show(last)
        line.writeAbove("after\n")
        let waiting = "running; waiting for the list of pages"
        let clear = "\r\u{1B}[K"
        let expected = ["before\n", clear + waiting, clear + "during\n" + waiting, clear, "after\n"]
        #expect(written.withLock { $0 } == expected)
    }
}
