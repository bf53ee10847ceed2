// SPDX-License-Identifier: Apache-2.0
import FrameTransport
import Glibc
import LinuxSystem
import PageWire
import Reporting
import TestSupport
import Testing

@testable import LazyRestore
@testable import PageServer

/// A page server that waits for its destination for days has as much after a thousand that came and left as after the first ones.
@Suite(.serialized, .timeLimit(.minutes(10)), .enabled(if: Machine.isRoot, "needs root: run deploy/test as root"))
struct LeakTests {
    /// `THAW_SESSIONS=1000` does them all.
    private static let sessions = EnvironmentVariable.text("THAW_SESSIONS").flatMap { Int($0) } ?? 100
    /// Until arenas and stacks that are kept for the next thread are there.
    private static let warmUp = 30

    /// What a program has.
    private struct Belongings: Equatable, CustomStringConvertible {
        var descriptors: Int
        var threads: Int
        var mappings: Int

        init(of pid: Int32) throws {
            descriptors = try namesInFolder("/proc/\(pid)/fd").count
            threads = try namesInFolder("/proc/\(pid)/task").count
            mappings = try readText("/proc/\(pid)/maps").utf8.count { $0 == UInt8(ascii: "\n") }
        }

        var description: String { "\(descriptors) descriptors, \(threads) threads, \(mappings) mappings" }
    }

    @Test func sessionsThatComeToNothingLeaveNothing() throws {
        let folder = try Scratch("leaks")
        try withServer(folder) { server, port, victim in
            for number in 0..<Self.warmUp { try session(number, port) }
            let before = try settled(server.pid)
            // The detector sees a session that is there.
            let open = try connect(port)
            try open.openPageConnections()
            try wait(for: "its threads") { try Belongings(of: server.pid).threads >= before.threads + 2 }
            #expect(try Belongings(of: server.pid).descriptors >= before.descriptors + 3)
            open.vanish()
            for number in 0..<Self.sessions { try session(number, port) }
            let after = try settled(server.pid)
            #expect(after.descriptors == before.descriptors && after.threads == before.threads, "\(before); \(after)")
            // An arena more or less; less than one for each ten sessions, and a few for few sessions.
            #expect(after.mappings < before.mappings + max(16, Self.sessions / 10), "\(before); \(after)")
            #expect(try !readText("/proc/\(victim)/smaps").contains(" uw"))
            #expect(try namesInFolder("/proc/\(victim)/fd").count == 3)
        }
    }

    private func withServer(_ folder: Scratch, _ body: (TestProcess, UInt16, Int32) throws -> Void) throws {
        let output = TestProcess.Stream.file(folder.file("out"))
        let options = TestProcess.Options(output: output, errors: output, directory: "/")
        try withProcess(BuiltProduct.victim, ["carried", folder.path, "heap"], options: options) { victim in
            try wait(for: "the victim") { try readText(folder.file("out")).contains("ready") }
            let tls = try Certificates.directory()
            let words = ["page-server", "-t", "\(victim.pid)", "--tls-dir", tls, "--no-record", "--status-fd", "3"]
            try withProcess(BuiltProduct.thaw, words, options: .init(output: .null, statusPipe: true)) { server in
                let line = try server.status?.next() ?? ""
                guard let port = try JSONValue(parsing: line)["port"]?.integer.flatMap({ UInt16(exactly: $0) }) else {
                    throw TestFailure("no port in \(line); \(server.report())")
                }
                try body(server, port, victim.pid)
                // It serves whoever comes next.
                try connect(port).vanish()
                #expect(try server.pollForExit() == nil, "\(server.report())")
            }
        }
    }

    /// Comes, does something, and leaves before the freeze.
    private func session(_ number: Int, _ port: UInt16) throws {
        switch number % 10 {
        case 7:
            // Not even a handshake.
            _ = try StreamSocket.connect(to: "127.0.0.1", port: port, until: .after(patience))
        case 8:
            #expect(throws: SessionFailure.self) {
                _ = try ScriptedDestination(port: port) { $0.tls.directory = try! Certificates.foreignDirectory() }
            }
        case 9:
            let destination = try connect(port)
            try destination.openPageConnections()
            try destination.send(.preCopy(PreCopyRequest(rounds: 1, maximumPause: 1, maximumPages: 1 << 20)))
            try takePages(destination)
            destination.vanish()
        default:
            let destination = try connect(port)
            try destination.openPageConnections()
            destination.vanish()
        }
    }

    /// Takes what is sent until pre-copy is over.
    private func takePages(_ destination: ScriptedDestination) throws {
        guard let bulk = destination.bulk else { throw TestFailure("no bulk connection") }
        while true {
            if case .message(.preCopied) = try bulk.receive(until: .after(patience)) { return }
        }
    }

    /// The one before may not have been forgotten yet.
    private func connect(_ port: UInt16) throws -> ScriptedDestination {
        var made: ScriptedDestination?
        try wait(for: "room for a session") {
            do {
                made = try ScriptedDestination(port: port)
            } catch let error as SessionFailure where error.code == .tryAgain {
                return false
            }
            return true
        }
        guard let made else { throw TestFailure("no session") }
        return made
    }

    /// What a program has when it has had the same for a while.
    private func settled(_ pid: Int32) throws -> Belongings {
        var last = try Belongings(of: pid)
        var since = ContinuousClock.now
        try wait(for: "the last sessions to be forgotten") {
            let now = try Belongings(of: pid)
            if now != last { (last, since) = (now, .now) }
            return ContinuousClock.now - since > .milliseconds(500)
        }
        return last
    }
}
