// SPDX-License-Identifier: Apache-2.0
import Reporting
import TestSupport
import Testing

@Suite struct StatisticsTests {
    @Test func anEmptyHistogramHasNoPercentiles() {
        let histogram = LatencyHistogram()
        #expect(histogram.percentile(0.5) == 0)
        #expect(histogram.maximum == 0)
        #expect(histogram.byMicroseconds.isEmpty)
    }

    @Test(arguments: [0.5, 0.9, 0.99, 0.999])
    func percentilesAreWithinABucketOfTheTruth(share: Double) {
        var histogram = LatencyHistogram()
        var generator = SeededGenerator(seed: 42)
        var values: [UInt64] = []
        for _ in 0..<20_000 {
            let value = generator.next() >> UInt64.random(in: 20...60, using: &generator)
            values.append(value)
            histogram.record(nanoseconds: value)
        }
        values.sort()
        let truth = values[Int((share * Double(values.count)).rounded(.up)) - 1]
        let told = histogram.percentile(share)
        #expect(told >= truth, "seed 42")
        #expect(Double(told) <= Double(truth) * 1.04 + 1, "seed 42")
        #expect(histogram.maximum == values.last)
    }

    @Test func bucketsOfMicrosecondsKeepEveryCount() {
        var histogram = LatencyHistogram()
        for value: UInt64 in [999, 1000, 1500, 63_000, 64_100, 10_000_000_000] { histogram.record(nanoseconds: value) }
        let buckets = histogram.byMicroseconds
        #expect(buckets.reduce(0) { $0 + $1.count } == 6)
        #expect(buckets.first?.upperBound == 1)
        #expect(buckets.first?.count == 1)
        #expect(buckets[1].upperBound == 2 && buckets[1].count == 2)
        #expect(buckets.first { $0.upperBound == 64 }?.count == 1)
        #expect(buckets.first { $0.upperBound == 128 }?.count == 1)
        #expect(buckets.last?.upperBound == 1 << 24)
    }

    @Test func mergedHistogramsCountBoth() {
        var first = LatencyHistogram()
        var second = LatencyHistogram()
        first.record(nanoseconds: 10)
        second.record(nanoseconds: 1_000_000)
        first.merge(second)
        #expect(first.count == 2)
        #expect(first.maximum == 1_000_000)
        #expect(first.total == 1_000_010)
    }

    @Test func stallsOfSeveralThreadsAreSummedAndUnited() {
        var book = StallBook()
        book.began(space: 0, page: 5, thread: 1, now: 100)
        book.began(space: 0, page: 6, thread: 2, now: 150)
        book.began(space: 0, page: 5, thread: 1, now: 160)
        book.ended(space: 0, pages: 5..<6, now: 200)
        book.ended(space: 0, pages: 6..<7, now: 300)
        book.began(space: 1, page: 6, thread: 3, now: 400)
        book.ended(space: 0, pages: 0..<100, now: 420)
        #expect(book.openCount == 1)
        #expect(book.isAnyoneWaiting { space, page, thread in space == 1 && page == 6 && thread == 3 })
        #expect(!book.isAnyoneWaiting { space, page, _ in space == 0 || page == 5 })
        book.spaceEnded(1, now: 450)
        #expect(book.openCount == 0)
        #expect(book.latency.count == 3)
        #expect(book.total == 100 + 150 + 50)
        #expect(book.union == 200 + 50)
    }

    @Test func aThreadThatTouchesAnotherPageWaitsNoLongerForTheFirst() {
        var book = StallBook()
        book.began(space: 0, page: 1, thread: 9, now: 0)
        book.began(space: 0, page: 2, thread: 9, now: 10)
        #expect(book.openCount == 1)
        book.ended(space: 0, pages: 2..<3, now: 15)
        #expect(book.latency.count == 2)
        #expect(book.total == 15)
    }

    @Test func statisticsHaveTheKeysOfTheContract() {
        var statistics = SessionStatistics()
        statistics.pid = 12
        statistics.result = "complete"
        statistics.pause = .milliseconds(7)
        statistics.timeToResident = .milliseconds(250)
        statistics.pages.total = 9
        statistics.pages.demanded = 4
        statistics.bytesReceived = 1 << 20
        statistics.bytesSent = 77
        statistics.latency.record(nanoseconds: 20)
        statistics.stallTotal = .nanoseconds(20)
        statistics.stallUnion = .nanoseconds(19)
        statistics.preCopyRounds = [(3, .milliseconds(1))]
        statistics.written = 12
        statistics.tlsVersion = "TLSv1.3"
        statistics.tlsCipher = "TLS_AES_256_GCM_SHA384"
        #expect(
            statistics.json.line
                == #"{"pid":12,"result":"complete","pause":0.007000000,"timeToResident":0.250000000,"#
                + #""pages":{"total":9,"zero":0,"preCopied":0,"demanded":4,"prefetched":0,"eager":0,"stale":0},"#
                + #""bytes":{"received":1048576,"sent":77},"faults":{"count":1,"latency":{"p50":0.000000020,"#
                + #""p90":0.000000020,"p99":0.000000020,"p999":0.000000020,"max":0.000000020,"histogram":[[1,1]]},"#
                + #""stallTotal":0.000000020,"stallUnion":0.000000019},"#
                + #""preCopyRounds":[{"pages":3,"seconds":0.001000000}],"tracker":"none","written":12,"reconnects":0,"#
                + #""tls":{"version":"TLSv1.3","cipher":"TLS_AES_256_GCM_SHA384"}}"#
        )
    }

    @Test func aPauseThatNeverEndedIsNull() {
        #expect(SessionStatistics().json.line.contains(#""pause":null,"timeToResident":null"#))
    }

    @Test func whereNobodyLookedAtWritesTheirNumberIsNull() {
        #expect(SessionStatistics().json.line.contains(#""written":null,"#))
    }
}
