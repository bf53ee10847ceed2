// SPDX-License-Identifier: Apache-2.0
import FrameTransport
import LinuxSystem
import PageWire
import Paging
import ProcessImage
import Reporting
import TestSupport
import Testing

@testable import LazyRestore
@testable import PageServer

/// Guard pages that the source finds only behind the freeze.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct LateGuardTests {
    private static func pages(_ first: UInt64, _ count: UInt64) -> AddressRange {
        AddressRange(pageNumbers: first..<first + count)
    }

    /// Data on 64 pages from 0x100, zeros on one; guards behind.
    private static func memory(walkMayBegin: EventDescriptor? = nil) -> FakeMemory {
        var memory = FakeMemory()
        memory.data.insert(0x100..<0x140)
        memory.zero.insert(0x150)
        memory.guards = [pages(0x200, 2)]
        memory.lateGuards = [pages(0x300, 1), pages(0x310, 3)]
        memory.walkMayBegin = walkMayBegin
        return memory
    }

    @Test func theGrantWaitsForNoWalkThroughMemory() throws {
        let walk = try EventDescriptor()
        let memory = Self.memory(walkMayBegin: walk)
        let server = try ServerUnderTest(FakeProcess(memory))
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        #expect(try destination.reachGrant() == [PageRun(Self.pages(0x200, 2))])
        // What is asked for meanwhile is answered all the same: data, zeros, guards, a guard of the grant, and a hole.
        var digest = PageDigest()
        for (page, kind) in [
            (UInt64(0x100), FrameKind.pages), (0x150, .zeroPages), (0x300, .guardPages), (0x311, .guardPages),
            (0x200, .absentPages), (0x400, .absentPages),
        ] {
            #expect(try destination.fetch(page).map(\.frame.kind) == [kind])
        }
        let mixed = try destination.fetch(0x30e, count: 6)
        #expect(mixed.map(\.frame.kind) == [.absentPages, .guardPages, .absentPages])
        #expect(mixed.map(\.frame.count) == [2, 3, 1])
        walk.signal()
        #expect(try destination.drain(into: &digest) == memory.existing)
        #expect(destination.lateGuards == memory.lateGuards.map { PageRun($0) })
        // 0x100 and 0x150 came on demand.
        digest.add(address: VirtualAddress(pageNumber: 0x100), page: FakeMemory.bytes(of: 0x100).span)
        digest.addZeros(address: VirtualAddress(pageNumber: 0x150))
        try destination.send(.running)
        try destination.send(.complete(PageTally(memory.digest)))
        guard case .acknowledged = try destination.receive() else { throw TestFailure("not acknowledged") }
        #expect(try server.outcome().outcome == Outcome())
    }

    @Test func aGrantThatComesLaterNamesThemAll() throws {
        let memory = Self.memory()
        let server = try ServerUnderTest(FakeProcess(memory))
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        _ = try destination.describe(.eager)
        // Everything comes first, the late guards as well.
        var digest = PageDigest()
        #expect(try destination.drain(into: &digest) == memory.existing)
        #expect(destination.lateGuards == memory.lateGuards.map { PageRun($0) })
        try destination.send(.built)
        guard case .grant(let guards) = try destination.receive() else { throw TestFailure("no grant") }
        #expect(guards == (memory.guards + memory.lateGuards).map { PageRun($0) })
        destination.vanish()
        _ = try server.outcome()
    }

    @Test func moreGuardsThanAGrantNamesAreRefused() throws {
        var memory = FakeMemory()
        memory.guards = (0...UInt64(PageProtocol.maximumGuards)).map { Self.pages(0x1000 + 2 * $0, 1) }
        let server = try ServerUnderTest(FakeProcess(memory))
        let destination = try ScriptedDestination(port: server.port)
        try destination.send(.describe([]))
        guard case .abort(78, let text) = try destination.receive() else { throw TestFailure("no refusal") }
        #expect(text.contains("65537 guard ranges"))
        #expect(try server.outcome().outcome.exitStatus == 78)
        #expect(server.process.done == [.examined, .frozen, .thawed])
    }

    @Test func guardsFoundLaterThatAreTooManyForTheGrantAreNamedLater() throws {
        var memory = FakeMemory()
        memory.guards = [Self.pages(0x100, 1)]
        memory.lateGuards = (0..<UInt64(PageProtocol.maximumGuards)).map { Self.pages(0x1000 + 2 * $0, 1) }
        let server = try ServerUnderTest(FakeProcess(memory))
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        _ = try destination.describe(.eager)
        var digest = PageDigest()
        _ = try destination.drain(into: &digest)
        #expect(destination.lateGuards == memory.lateGuards.map { PageRun($0) })
        try destination.send(.built)
        guard case .grant(let guards) = try destination.receive() else { throw TestFailure("no grant") }
        #expect(guards == [PageRun(Self.pages(0x100, 1))])
        destination.vanish()
        _ = try server.outcome()
    }

    // MARK: Real processes

    private static let needsRoot: Comment = "needs root: it traces and builds processes"

    /// Who hears of the guards first: the process touches one, or nobody does before they are named.
    enum Moment: CaseIterable {
        case touched, named
    }

    /// What the victim does with its guards.
    enum Deed: String, CaseIterable {
        case touch, read, fork
    }

    @Test(.enabled(if: Machine.isRoot, needsRoot), arguments: Deed.allCases, Moment.allCases)
    func aGuardThatIsFoundLateIsNeverZeros(_ deed: Deed, _ moment: Moment) throws {
        let folder = try Scratch("guards")
        let output = folder.file("output")
        let options = TestProcess.Options(output: .file(output))
        let words = ["guards", folder.file("go"), deed.rawValue]
        try withProcess(BuiltProduct.victim, words, options: options) { victim in
            try wait(for: "ready") { (try? readText(output)) == "ready\n" }
            let walk = try EventDescriptor()
            let source = LookedAtLate(CheckpointedProcess(pid: victim.pid, freezeTimeout: patience), walk)
            let server = try ServerUnderTest(source: source, pid: victim.pid)
            let destination = try DestinationUnderTest(port: server.port)
            try destination.events.wait(for: "running") { if case .running = $0 { true } else { false } }
            if moment == .named {
                walk.signal()
                try destination.events.wait(for: .resident)
            }
            try writeFile(folder.file("go"), "")
            if moment == .touched {
                // It goes on by itself, guard by guard; the map has not come.
                try wait(for: "the victim's words") { ((try? readText(output)) ?? "").split(separator: "\n").count > 1 }
                walk.signal()
            }
            let (outcome, _) = try destination.outcome()
            #expect(try readText(output) == "ready\nright\n")
            #expect(outcome == Outcome(exitStatus: 5))
            #expect(try server.outcome().outcome == Outcome())
        }
    }

    @Test(.enabled(if: Machine.isRoot, needsRoot)) func guardsThatAreHeardOfBeforeItRunsAreInstalledFirst() throws {
        let folder = try Scratch("guards")
        let output = folder.file("output")
        let options = TestProcess.Options(output: .file(output))
        try withProcess(BuiltProduct.victim, ["guards", folder.file("go"), "touch"], options: options) { victim in
            try wait(for: "ready") { (try? readText(output)) == "ready\n" }
            let source = LookedAtLate(CheckpointedProcess(pid: victim.pid, freezeTimeout: patience), nil)
            let server = try ServerUnderTest(source: source, pid: victim.pid)
            let destination = try DestinationUnderTest(port: server.port) { $0.eager = true }
            try destination.events.wait(for: "running") { if case .running = $0 { true } else { false } }
            try writeFile(folder.file("go"), "")
            #expect(try destination.outcome().outcome == Outcome(exitStatus: 5))
            #expect(try readText(output) == "ready\nright\n")
            #expect(try server.outcome().outcome == Outcome())
        }
    }
}

/// A real process none of whose guards is known under the freeze, and whose memory is walked when the test says so.
private final class LookedAtLate: SourceProcess {
    private let process: CheckpointedProcess
    private let walk: EventDescriptor?

    init(_ process: CheckpointedProcess, _ walk: EventDescriptor?) {
        self.process = process
        self.walk = walk
    }

    var name: String { process.name }
    var endDescriptor: Int32? { process.endDescriptor }

    func examine() throws(SessionFailure) { try process.examine() }

    func freeze(sharedMemoryAhead: Bool) throws(SessionFailure) -> any FrozenSource {
        Frozen(try process.freeze(sharedMemoryAhead: sharedMemoryAhead), walk)
    }

    private final class Frozen: FrozenSource {
        private let frozen: any FrozenSource
        private let walk: EventDescriptor?

        init(_ frozen: any FrozenSource, _ walk: EventDescriptor?) {
            self.frozen = frozen
            self.walk = walk
        }

        var freezeBegan: UInt64 { frozen.freezeBegan }
        var encodedDescription: [UInt8] { get throws(SessionFailure) { try frozen.encodedDescription } }
        var memory: any SourceMemory { Memory(memory: frozen.memory, walk: walk) }
        var guards: [PageRun] { [] }
        func nextEagerPages() throws(SessionFailure) -> EagerPages? { try frozen.nextEagerPages() }
        func commitGranted() throws(SessionFailure) { try frozen.commitGranted() }
        func thaw() throws(SessionFailure) { try frozen.thaw() }
        func kill() throws(SessionFailure) { try frozen.kill() }
        func leaveStopped() throws(SessionFailure) { try frozen.leaveStopped() }
        func continueAsClone() throws(SessionFailure) { try frozen.continueAsClone() }
    }

    private struct Memory: SourceMemory {
        let memory: any SourceMemory
        let walk: EventDescriptor?

        func makeReader() throws(SessionFailure) -> any SourceMemoryReader {
            Reader(try memory.makeReader(), walk)
        }
    }

    private final class Reader: SourceMemoryReader {
        private let reader: any SourceMemoryReader
        private let walk: EventDescriptor?

        init(_ reader: any SourceMemoryReader, _ walk: EventDescriptor?) {
            self.reader = reader
            self.walk = walk
        }

        func read(
            _ address: VirtualAddress,
            count: Int,
            into buffer: TransferBuffer,
            at offset: Int
        ) throws(SessionFailure) -> UInt64 {
            try reader.read(address, count: count, into: buffer, at: offset)
        }

        func survey(existing: (AddressRange) -> Void, guards: (AddressRange) -> Void) throws(SessionFailure) {
            _ = try? walk?.wait(until: .after(patience))
            try reader.survey(existing: existing, guards: guards)
        }

        func look(at address: VirtualAddress, count: Int) throws(SessionFailure) -> (existing: UInt64, guards: UInt64) {
            try reader.look(at: address, count: count)
        }
    }
}
