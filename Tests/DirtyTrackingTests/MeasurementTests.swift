// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import Testing

/// What is computed from counts of pages.
@Suite
struct MeasurementTests {
    static func measurement(
        _ written: UInt64,
        of present: UInt64 = 1 << 18,
        in duration: Duration = .seconds(1)
    ) -> WriteMeasurement {
        var measurement = WriteMeasurement()
        measurement.written = written
        measurement.present = present
        measurement.duration = duration
        return measurement
    }

    @Test func rateAndShareFollowFromTheCounts() {
        let measurement = Self.measurement(1000, of: 4000, in: .milliseconds(500))
        #expect(measurement.writtenBytes == 4_096_000)
        #expect(measurement.bytesPerSecond == 8_192_000)
        #expect(measurement.share == 0.25)
    }

    @Test func nothingIsDividedByNothing() {
        let nothing = Self.measurement(0, of: 0, in: .zero)
        #expect(nothing.bytesPerSecond == 0 && nothing.share == 0)
        let estimate = PauseEstimate(bandwidth: 1)
        #expect(estimate.afterInterval(nothing) == .zero && estimate.afterCopy(nothing) == .zero)
        // More can have been written than is left.
        #expect(Self.measurement(10, of: 5).share == 1)
    }

    @Test func theTimeToSendWhatAnIntervalLeavesIsThatOfItsPages() {
        let estimate = PauseEstimate(bandwidth: 0x1p30)
        #expect(estimate.afterInterval(Self.measurement(1 << 18)) == .seconds(1))
        #expect(estimate.afterInterval(Self.measurement(1 << 8)) == .seconds(1) / 1024)
    }

    /// Pages written, pages with data, pages a second that can be sent; pages that are left by a copy.
    @Test(arguments: [
        // As long as the interval.
        (written: 1000, present: 10_000, sent: 10_000, left: 1000),
        // Shorter: as much as in the interval, because the same pages may be written all the time.
        (written: 1000, present: 10_000, sent: 100_000, left: 1000),
        // Three times as long.
        (written: 1000, present: 30_000, sent: 10_000, left: 3000),
        // So long that all is written again.
        (written: 9000, present: 10_000, sent: 1000, left: 10_000),
        (written: 0, present: 10_000, sent: 1000, left: 0),
    ])
    func aCopyLeavesAtMostWhatIsWrittenMeanwhile(written: UInt64, present: UInt64, sent: UInt64, left: UInt64) {
        let estimate = PauseEstimate(bandwidth: Double(sent * 4096))
        let measurement = Self.measurement(written, of: present)
        #expect(estimate.pagesLeftByCopy(measurement) == left)
        #expect(estimate.afterCopy(measurement) == estimate.sending(pages: left))
    }

    @Test func theSummaryKeepsTheExtremesAndTheAverage() {
        var summary = WriteSummary()
        #expect(summary.bytesPerSecond == 0 && summary.average.written == 0)
        // The second has the highest rate, the third the most pages.
        for (number, (written, milliseconds)) in [(1000, 1000), (800, 100), (1200, 2000)].enumerated() {
            var measurement = Self.measurement(UInt64(written), in: .milliseconds(milliseconds))
            measurement.number = number + 1
            measurement.present = UInt64(number + 1) * 10_000
            summary.add(measurement)
        }
        #expect(summary.count == 3)
        #expect(summary.fastest.number == 2 && summary.largest.number == 3 && summary.last.number == 3)
        #expect(summary.duration == .milliseconds(3100))
        #expect(summary.writtenBytes == 3000 * 4096)
        #expect(summary.average.written == 1000 && summary.average.present == 30_000)
        #expect(summary.average.duration == .milliseconds(3100) / 3)
        #expect(summary.history.values.count == 3)
    }

    @Test func theHistoryIsBoundedAndKeepsTheHighest() {
        var history = RateHistory()
        for number in 1...RateHistory.limit { history.append(Double(number)) }
        #expect(history.values.count == RateHistory.limit && history.width == 1)
        for number in RateHistory.limit + 1...10_000 {
            history.append(number == 5000 ? 1e6 : Double(number))
            #expect(history.values.count <= RateHistory.limit)
        }
        #expect(history.width == 256)
        #expect(history.values.max() == 1e6)
        #expect(history.values.firstIndex(of: 1e6) == 4999 / 256)
        #expect(history.values.first == 256 && history.values.last == 10_000)
        #expect(history.values.count == 10_000 / 256 + 1)
    }
}
