// SPDX-License-Identifier: Apache-2.0
import FrameTransport
import Glibc
import LinuxSystem
import Logging
import PageWire
import Paging
import ProcessImage
import Reporting
import TestSupport
import Testing

@testable import LazyRestore
@testable import PageServer

/// Whole moves of real processes, both halves in this program.
@Suite(
    .serialized,
    .timeLimit(.minutes(10)),
    .enabled(if: Machine.isRoot, "needs root: it traces and builds processes")
)
struct MoveTests {
    private struct Files {
        let folder: Scratch
        var go: String { folder.file("go") }
        var output: String { folder.file("output") }

        init() throws {
            folder = try Scratch("move")
        }

        func lines() -> [String] {
            ((try? readText(output)) ?? "").split(separator: "\n").map(String.init)
        }
    }

    private func withVictim(_ files: Files, _ arguments: [String], _ body: (TestProcess) throws -> Void) throws {
        let options = TestProcess.Options(output: .file(files.output))
        try withProcess(BuiltProduct.victim, arguments, options: options) { victim in
            try wait(for: "ready") { files.lines().contains("ready") }
            try body(victim)
        }
    }

    /// While pages are still owed the process drops, moves and unmaps memory and forks, and another thread reads.
    @Test(arguments: [false, true]) func aProcessChangesItsMemoryWhileItArrives(isEager: Bool) throws {
        let files = try Files()
        try withVictim(files, ["memory-events", files.go, "512", "1500"]) { victim in
            // The stream is slow, so that the process is long in between.
            let process = SlowlyStreamed(CheckpointedProcess(pid: victim.pid, freezeTimeout: patience), pause: 4000)
            let server = try ServerUnderTest(source: process, pid: victim.pid)
            let destination = try DestinationUnderTest(port: server.port) { $0.eager = isEager }
            try destination.events.wait(for: "running") { if case .running = $0 { true } else { false } }
            try writeFile(files.go, "")
            let (outcome, statistics) = try destination.outcome()
            #expect(files.lines() == ["ready", "right"])
            #expect(outcome == Outcome(exitStatus: 5))
            #expect(statistics.result == "complete")
            #expect(statistics.pages.total >= 512 * 16)
            #expect(statistics.pages.demanded + statistics.pages.prefetched == statistics.pages.total)
            #expect(isEager || statistics.latency.count > 0)
            let (served, source) = try server.outcome()
            #expect(served == Outcome())
            #expect(source.pages.total == statistics.pages.total)
            #expect(!processIsAlive(victim.pid))
            let names = destination.events.all.map(Self.name)
            let expected = ["connected", "running", "resident", "complete", "exited"]
            #expect(names.filter { expected.contains($0) }.sorted() == expected.sorted())
            #expect(!names.contains("lost") && !names.contains("failed"))
        }
    }

    @Test func aDaemonEndsWhenEverythingIsThere() throws {
        let files = try Files()
        try withVictim(files, ["memory-events", files.go, "256", "500"]) { victim in
            let source = CheckpointedProcess(pid: victim.pid, freezeTimeout: patience)
            let server = try ServerUnderTest(source: source, pid: victim.pid)
            let destination = try DestinationUnderTest(port: server.port) { $0.attached = false }
            let (outcome, statistics) = try destination.outcome()
            #expect(outcome == Outcome())
            #expect(statistics.result == "complete")
            #expect(processIsAlive(statistics.pid))
            #expect(try server.outcome().outcome == Outcome())
            // The process goes on by itself.
            try writeFile(files.go, "")
            try wait(for: "the process's result") { files.lines() == ["ready", "right"] }
            try wait(for: "its end") { !processIsAlive(statistics.pid) }
        }
    }

    /// From that moment on there is no other copy, so the death of the restorer must not end this one.
    @Test func whenTheSourceEndsItsProcessNoGuardianKillsTheCopy() throws {
        let files = try Files()
        try withVictim(files, ["memory-events", files.go, "256", "500"]) { victim in
            let guardians = Lock<[Int32]?>(nil)
            let process = SlowlyStreamed(
                CheckpointedProcess(pid: victim.pid, freezeTimeout: patience),
                pause: 2000
            ) {
                guardians.withLock { $0 = Self.guardiansAtWork() }
            }
            let server = try ServerUnderTest(source: process, pid: victim.pid)
            let destination = try DestinationUnderTest(port: server.port) { $0.attached = false }
            try destination.events.wait(for: "running") { if case .running = $0 { true } else { false } }
            #expect(!Self.guardiansAtWork().isEmpty, "with pages owed there is one")
            let (outcome, statistics) = try destination.outcome()
            #expect(outcome == Outcome())
            #expect(try server.outcome().outcome == Outcome())
            #expect(guardians.withLock { $0 } == [])
            try writeFile(files.go, "")
            try wait(for: "the process's result") { files.lines() == ["ready", "right"] }
            try wait(for: "its end") { !processIsAlive(statistics.pid) }
        }
    }

    /// The copy ends with pages owed: a COMPLETE would end the source process as well, and it is all that is left.
    @Test func anOperatorWhoEndsADaemonKeepsTheSource() throws {
        let files = try Files()
        try withVictim(files, ["memory-events", files.go, "256", "500"]) { victim in
            let process = SlowlyStreamed(CheckpointedProcess(pid: victim.pid, freezeTimeout: patience), pause: 50_000)
            let server = try ServerUnderTest(source: process, pid: victim.pid)
            let destination = try DestinationUnderTest(port: server.port) { $0.attached = false }
            let running = try destination.events.wait(for: "running") { if case .running = $0 { true } else { false } }
            guard case .running(let copy) = running else { throw TestFailure("no copy") }
            try destination.signal(.terminate)
            #expect(processIsAlive(copy), "once is a question")
            try destination.signal(.terminate)
            let (outcome, statistics) = try destination.outcome()
            #expect(outcome.exitStatus == 74)
            #expect(outcome.failure?.message.contains("ended by SIGTERM; the source process was granted") == true)
            #expect(statistics.result == "interrupted")
            #expect(!processIsAlive(copy))
            #expect(try server.outcome().outcome.exitStatus == 74)
            try wait(for: "the stop") { processState(victim.pid) == "T" }
            #expect(!server.events.all.contains { if case .complete = $0 { true } else { false } })
        }
    }

    /// Guardians of this program that hold a userfaultfd.
    private static func guardiansAtWork() -> [Int32] {
        let names = (try? namesInFolder("/proc")) ?? []
        return names.compactMap { Int32($0) }.filter { pid in
            guard let stat = try? readText("/proc/\(pid)/stat"), stat.contains("(thaw-guardian)"),
                stat.split(separator: ")").last?.split(separator: " ").dropFirst().first == "\(getpid())"
            else { return false }
            let descriptors = (try? namesInFolder("/proc/\(pid)/fd")) ?? []
            return descriptors.contains { (try? readLink("/proc/\(pid)/fd/\($0)")) == "anon_inode:[userfaultfd]" }
        }
    }

    @Test func beforeTheGrantARealProcessRunsOn() throws {
        let files = try Files()
        try withVictim(files, ["counting"]) { victim in
            let source = CheckpointedProcess(pid: victim.pid, freezeTimeout: patience)
            let server = try ServerUnderTest(source: source, pid: victim.pid)
            let destination = try ScriptedDestination(port: server.port)
            _ = try destination.describe()
            try wait(for: "the freeze") { processState(victim.pid) == "t" }
            destination.vanish()
            #expect(try server.outcome().outcome.exitStatus == 75)
            let count = files.lines().count
            try wait(for: "the count to go on") { files.lines().count > count + 3 }
        }
    }

    @Test func behindTheGrantARealProcessStaysStopped() throws {
        let files = try Files()
        try withVictim(files, ["counting"]) { victim in
            let source = CheckpointedProcess(pid: victim.pid, freezeTimeout: patience)
            let server = try ServerUnderTest(source: source, pid: victim.pid)
            let destination = try ScriptedDestination(port: server.port)
            _ = try destination.reachGrant()
            destination.vanish()
            #expect(try server.outcome().outcome.exitStatus == 74)
            // The stop is pending when the tracer lets go, and is taken before the process gets back to its own code.
            try wait(for: "the stop") { processState(victim.pid) == "T" }
            let count = files.lines().count
            // Only when an operator says that it may run after all, it does.
            victim.signal(18)
            try wait(for: "the count to go on") { files.lines().count > count + 3 }
        }
    }

    enum Ends: CaseIterable {
        case beforeAnybodyCame, beforeTheFreeze, behindTheFreeze, behindTheGrant
    }

    @Test(arguments: Ends.allCases) func aProcessThatEndsEndsTheSession(_ moment: Ends) throws {
        let files = try Files()
        try withVictim(files, ["counting"]) { victim in
            let source = CheckpointedProcess(pid: victim.pid, freezeTimeout: patience)
            let server = try ServerUnderTest(source: source, pid: victim.pid) { $0.hold = nil }
            let destination = moment == .beforeAnybodyCame ? nil : try ScriptedDestination(port: server.port)
            // Whoever has not been taken up is not told.
            if destination != nil {
                try server.events.wait(for: "connected") { if case .connected = $0 { true } else { false } }
            }
            if moment == .behindTheFreeze { _ = try destination?.describe() }
            if moment == .behindTheGrant { _ = try destination?.reachGrant() }
            victim.signal(9)
            #expect(try server.outcome().outcome.exitStatus == (moment == .behindTheGrant ? 74 : 66))
            if let destination {
                guard case .abort = try destination.receive() else { throw TestFailure("no abort") }
            }
            try wait(for: "the end") { !processIsAlive(victim.pid) }
        }
    }

    private static func name(_ event: StatusEvent) -> String {
        guard case .object(let members) = event.json(time: .zero), case .text(let name)? = members.first?.value else {
            return "?"
        }
        return name
    }
}

/// A real process whose stream of pages is slow; what threads wait for comes at once.
private final class SlowlyStreamed: SourceProcess {
    private let process: CheckpointedProcess
    private let pause: UInt32
    private let beforeKill: @Sendable () -> Void

    init(_ process: CheckpointedProcess, pause: UInt32, beforeKill: @escaping @Sendable () -> Void = {}) {
        self.process = process
        self.pause = pause
        self.beforeKill = beforeKill
    }

    var name: String { process.name }
    var endDescriptor: Int32? { process.endDescriptor }

    func examine() throws(SessionFailure) { try process.examine() }

    func freeze(sharedMemoryAhead: Bool) throws(SessionFailure) -> any FrozenSource {
        Frozen(try process.freeze(sharedMemoryAhead: sharedMemoryAhead), pause: pause, beforeKill: beforeKill)
    }

    private final class Frozen: FrozenSource {
        private let frozen: any FrozenSource
        private let pause: UInt32
        private let beforeKill: () -> Void

        init(_ frozen: any FrozenSource, pause: UInt32, beforeKill: @escaping () -> Void) {
            self.frozen = frozen
            self.pause = pause
            self.beforeKill = beforeKill
        }

        var freezeBegan: UInt64 { frozen.freezeBegan }
        var encodedDescription: [UInt8] { get throws(SessionFailure) { try frozen.encodedDescription } }
        var memory: any SourceMemory { Memory(memory: frozen.memory, pause: pause) }
        var guards: [PageRun] { frozen.guards }
        func nextEagerPages() throws(SessionFailure) -> EagerPages? { try frozen.nextEagerPages() }
        func commitGranted() throws(SessionFailure) { try frozen.commitGranted() }
        func thaw() throws(SessionFailure) { try frozen.thaw() }
        func kill() throws(SessionFailure) {
            beforeKill()
            try frozen.kill()
        }

        func leaveStopped() throws(SessionFailure) { try frozen.leaveStopped() }
        func continueAsClone() throws(SessionFailure) { try frozen.continueAsClone() }
    }

    private struct Memory: SourceMemory {
        let memory: any SourceMemory
        let pause: UInt32

        func makeReader() throws(SessionFailure) -> any SourceMemoryReader {
            Reader(try memory.makeReader(), pause: pause)
        }
    }

    private final class Reader: SourceMemoryReader {
        private let reader: any SourceMemoryReader
        private let pause: UInt32

        init(_ reader: any SourceMemoryReader, pause: UInt32) {
            self.reader = reader
            self.pause = pause
        }

        func read(
            _ address: VirtualAddress,
            count: Int,
            into buffer: TransferBuffer,
            at offset: Int
        ) throws(SessionFailure) -> UInt64 {
            // Only the stream reads as much as this at once. The pause shapes the test's load; nothing waits for it.
            if count > 32 {
                _ = try? DescriptorIO.wait(for: .readable, on: never, until: .after(.microseconds(Int64(pause))))
            }
            return try reader.read(address, count: count, into: buffer, at: offset)
        }

        func survey(existing: (AddressRange) -> Void, guards: (AddressRange) -> Void) throws(SessionFailure) {
            try reader.survey(existing: existing, guards: guards)
        }

        func look(at address: VirtualAddress, count: Int) throws(SessionFailure) -> (existing: UInt64, guards: UInt64) {
            try reader.look(at: address, count: count)
        }

        private let event = try? EventDescriptor()
        private var never: Int32 { event?.descriptor ?? 0 }
    }
}
