// SPDX-License-Identifier: Apache-2.0
import Glibc
import PageWire
import Reporting
import TestSupport
import Testing

@testable import PageServer

@Suite(.serialized, .timeLimit(.minutes(5))) struct SessionRecordTests {
    private static let record = SessionRecord(
        state: .granted,
        process: .init(pid: 7, startTime: 8),
        server: .init(pid: 9, startTime: 10),
        session: "00ff",
        peer: "restorer.example",
        boot: "b"
    )

    @Test func whatIsWrittenIsRead() {
        #expect(SessionRecord(Self.record.text) == Self.record)
        var other = Self.record
        other.peer = "two\nlines\u{7f}"
        #expect(SessionRecord(other.text)?.peer == "two lines ")
    }

    @Test func whatIsNoRecordIsNone() {
        let text = Self.record.text
        for bad in [
            "", "thaw-session 2\n", text.replacing("granted", with: "gone"), text.replacing("pid 7", with: "pid 0"),
            text.replacing("pid 7", with: "pid"), text + "pid 8\n", text.replacing("start 8\n", with: ""),
            text.replacing("server 9", with: "server -9"),
        ] {
            #expect(SessionRecord(bad) == nil, "\(bad)")
        }
    }

    @Test func theNameOfASessionTellsNothingOfItsSecret() {
        let name = SessionRecord.name(of: [UInt8](repeating: 0xab, count: 32))
        #expect(name.count == 16 && !name.contains("ab"))
        #expect(name != SessionRecord.name(of: [UInt8](repeating: 0xac, count: 32)))
    }

    /// The grant is on the disk before it is sent, and what is there can be read by its owner only.
    @Test func theStatesAreWrittenInTime() throws {
        let folder = try Scratch("records").file("folder")
        let server = try ServerUnderTest(source: FakeProcess(), pid: getpid()) { $0.record = folder }
        let path = "\(folder)/\(getpid()).session"
        func state() throws -> SessionRecord.State? { SessionRecord(try readText(path))?.state }
        let destination = try ScriptedDestination(port: server.port)
        _ = try destination.describe()
        #expect(try state() == .frozen)
        try destination.send(.built)
        guard case .grant = try destination.receive() else { throw TestFailure("no grant") }
        #expect(try state() == .granted)
        destination.vanish()
        let outcome = try server.outcome().outcome
        #expect(outcome.failure?.message.contains("thaw settle \(getpid()) --thaw --force") == true)
        #expect(try state() == .granted)
        // This very process would be offered again.
        #expect(throws: TestFailure.self) {
            try ServerUnderTest(source: FakeProcess(), pid: getpid(), within: .milliseconds(300)) { $0.record = folder }
        }
    }

    @Test func withoutAPlaceForTheRecordNothingBegins() throws {
        let file = try Scratch("records").file("file")
        try writeFile(file, "")
        let log = EventLog()
        #expect(throws: TestFailure.self) {
            try ServerUnderTest(source: FakeProcess(), pid: getpid(), within: .milliseconds(300), log) { options in
                options.record = "\(file)/below"
            }
        }
        #expect(log.all.count == 1)
    }
}
