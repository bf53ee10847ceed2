// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxSystem
import Reporting
import Testing

@Suite struct StatusLineTests {
    private func line(_ event: StatusEvent) -> String {
        event.json(time: .seconds(1_700_000_000) + .nanoseconds(5_000_042)).line
    }

    @Test func everyEventIsOneLineWithItsTime() {
        let time = #""time":1700000000.005000042}"#
        #expect(line(.listening(port: 7443)) == #"{"state":"listening","port":7443,"# + time)
        #expect(
            line(.connected(peer: "destination.example")) == #"{"state":"connected","peer":"destination.example","#
                + time
        )
        #expect(line(.preCopy(round: 1, pages: 17)) == #"{"state":"pre-copy","round":1,"pages":17,"# + time)
        #expect(line(.frozen) == #"{"state":"frozen","# + time)
        #expect(line(.granted) == #"{"state":"granted","# + time)
        #expect(line(.running(pid: 4711)) == #"{"state":"running","pid":4711,"# + time)
        #expect(line(.lost) == #"{"state":"lost","# + time)
        #expect(line(.resumed) == #"{"state":"resumed","# + time)
        #expect(line(.resident) == #"{"state":"resident","# + time)
        #expect(line(.complete(pages: 3, digest: "0f")) == #"{"state":"complete","pages":3,"digest":"0f","# + time)
        #expect(line(.written(pages: 501)) == #"{"state":"written","pages":501,"# + time)
        #expect(line(.exited(status: 143)) == #"{"state":"exited","status":143,"# + time)
        #expect(line(.failed(code: 78, message: "no")) == #"{"state":"failed","code":78,"message":"no","# + time)
    }

    @Test func textIsQuoted() {
        let message = "a \"quoted\" path\\with\nlines, \u{1}, \u{7f} and ü"
        #expect(JSON.text(message).line == #""a \"quoted\" path\\with\nlines, \u0001, \u007f and ü""#)
    }

    @Test func durationsHaveNineDigits() {
        #expect(JSON.seconds(.zero).line == "0.000000000")
        #expect(JSON.seconds(.nanoseconds(1)).line == "0.000000001")
        #expect(JSON.seconds(.milliseconds(1500)).line == "1.500000000")
        #expect(JSON.seconds(.milliseconds(-1500)).line == "-1.500000000")
        #expect(JSON.seconds(.nanoseconds(-5)).line == "-0.000000005")
    }

    @Test func decimalsHaveThreeDigits() {
        #expect(JSON.decimal(0).line == "0.000")
        #expect(JSON.decimal(12.3456).line == "12.346")
        #expect(JSON.decimal(-0.0625).line == "-0.063")
        #expect(JSON.decimal(.infinity).line == "null")
    }

    @Test func aSinkWithoutReaderIsNoFailure() throws {
        try Signal.brokenPipe.ignore()
        var pipe = try DescriptorPair.pipe()
        do { _ = pipe.takeFirst() }
        let sink = StatusSink(descriptor: pipe.takeSecond())
        sink.report(.frozen)
        sink.report(.granted)
    }

    @Test func linesArriveWhole() throws {
        var pipe = try DescriptorPair.pipe()
        let reader = pipe.takeFirst()
        do {
            let sink = StatusSink(descriptor: pipe.takeSecond())
            sink.report(.frozen)
            sink.report(.running(pid: 12))
        }
        let bytes = try DescriptorIO.readToEnd(reader.rawValue, limit: 4096, until: .after(.seconds(20)))
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        #expect(lines.count == 2)
        #expect(lines.first?.hasPrefix(#"{"state":"frozen","time":"#) == true)
        #expect(lines.last?.hasPrefix(#"{"state":"running","pid":12,"time":"#) == true)
    }
}
