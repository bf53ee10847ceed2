// SPDX-License-Identifier: Apache-2.0
import FrameTransport
import LinuxSystem
import PageWire
import Paging
import Reporting
import TestSupport
import Testing

@testable import LazyRestore
@testable import PageServer

/// Pages that are sent while the process runs: which of them count, and that nothing is left behind.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct PreCopyTests {
    private static let request = PreCopyRequest(rounds: 5, maximumPause: 0, maximumPages: 1 << 20)

    private static func round(_ written: PageSet, dropped: PageSet = PageSet()) -> Result<SourceRound, SessionFailure> {
        .success(SourceRound(written: written, dropped: dropped))
    }

    /// Asks for pre-copy; what came, by page, and how it ended.
    private static func preCopy(
        _ destination: ScriptedDestination,
        _ request: PreCopyRequest = request
    ) throws -> (pages: [UInt64: [UInt8]], rounds: [PreCopyRound], tracker: TrackerKind) {
        try destination.send(.preCopy(request))
        guard let bulk = destination.bulk else { throw TestFailure("no bulk connection") }
        var pages: [UInt64: [UInt8]] = [:]
        var rounds: [PreCopyRound] = []
        while true {
            switch try bulk.receive(until: .after(patience)) {
            case .message(.preCopyRound(let round)): rounds.append(round)
            case .message(.preCopied(_, let tracker)): return (pages, rounds, tracker)
            case .message(let other): throw TestFailure("unexpected \(other.kind)")
            case .nothing: continue
            case .pages(let frame):
                for index in 0..<UInt64(frame.count) {
                    let start = FrameChannel.contentOffset + Int(index) * 4096
                    let bytes = bulk.buffer.withBytes(start..<start + 4096) { span in span.indices.map { span[$0] } }
                    pages[frame.address.rawValue >> 12 + index] = bytes
                }
            }
        }
    }

    /// Behind the grant: the pages that are called unchanged, and the digest over those and over everything that came.
    private static func drain(
        _ destination: ScriptedDestination,
        _ kept: [UInt64: [UInt8]]
    ) throws -> (unchanged: PageSet, digest: PageDigest) {
        guard let bulk = destination.bulk else { throw TestFailure("no bulk connection") }
        var unchanged = PageSet()
        var digest = PageDigest()
        while true {
            switch try bulk.receive(until: .after(patience)) {
            case .message(.pageMap): continue
            case .message(.preCopyMap(let runs, _)):
                for page in runs.flatMap({ $0.address.rawValue >> 12..<$0.address.rawValue >> 12 + $0.count }) {
                    unchanged.insert(page)
                    let bytes = try #require(kept[page])
                    digest.add(address: VirtualAddress(page << 12), page: bytes.span)
                }
            case .message(.drained): return (unchanged, digest)
            case .message(let other): throw TestFailure("unexpected \(other.kind)")
            case .nothing: continue
            case .pages(let frame):
                for index in 0..<UInt64(frame.count) {
                    let address = VirtualAddress(frame.address.rawValue + index << 12)
                    let start = FrameChannel.contentOffset + Int(index) * 4096
                    bulk.buffer.withBytes(start..<start + 4096) { digest.add(address: address, page: $0) }
                }
            }
        }
    }

    @Test func onlyWhatHasNotChangedSinceIsTakenFromPreCopy() throws {
        var old = FakeMemory(data: pages(100..<300))
        old.age = 1
        // 120 is written between the rounds and again in the end, 130 is thrown away, 140 in the end is no page any more.
        let tracker = FakeTracker(
            [Self.round(pages(100..<300)), Self.round(pages(110..<180), dropped: pages(130..<131))],
            last: SourceRound(written: pages(110..<200), dropped: pages(250..<260)),
            memory: old
        )
        var final = FakeMemory(data: pages(100..<140, 141..<300))
        final.age = 1
        let process = FakeProcess(final, tracker: tracker)
        let server = try ServerUnderTest(process)
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        let (kept, rounds, kind) = try Self.preCopy(destination)
        #expect(kind == .writeProtectAsync)
        #expect(rounds.map(\.pages) == [200, 70])
        #expect(kept.count == 200)
        _ = try destination.reachGrant()
        try destination.send(.running)
        let (unchanged, digest) = try Self.drain(destination, kept)
        #expect(unchanged == pages(100..<110, 200..<250, 260..<300))
        #expect(digest.count == 199)
        try destination.send(.complete(PageTally(digest)))
        #expect(try destination.receive() == .acknowledged)
        let (outcome, statistics) = try server.outcome()
        #expect(outcome.failure == nil)
        #expect(statistics.pages.preCopied == 100)
        #expect(statistics.tracker == "writeProtectAsync")
        #expect(statistics.preCopyRounds.map(\.pages) == [200, 70])
        #expect(process.done == [.examined, .tracked, .frozen, .committed, .killed, .untracked])
    }

    @Test func aStalePageIsNotAcknowledged() throws {
        let memory = FakeMemory(data: pages(10..<20))
        let tracker = FakeTracker(
            [Self.round(pages(10..<20))],
            last: SourceRound(written: PageSet(), dropped: PageSet()),
            memory: memory
        )
        // The tracker has missed that everything was written again.
        var written = memory
        written.age = 7
        let server = try ServerUnderTest(FakeProcess(written, tracker: tracker))
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        let kept = try Self.preCopy(destination).pages
        _ = try destination.reachGrant()
        try destination.send(.running)
        let (unchanged, digest) = try Self.drain(destination, kept)
        #expect(unchanged == pages(10..<20))
        try destination.send(.complete(PageTally(digest)))
        guard case .abort(_, let text) = try destination.receive() else { throw TestFailure("no abort") }
        #expect(text.contains("digest"))
        #expect(try server.outcome().outcome.failure?.code == .interrupted)
        #expect(server.process.done.last == .untracked)
        #expect(server.process.done.contains(.leftStopped))
    }

    @Test func withoutTrackerNothingIsSent() throws {
        let server = try ServerUnderTest(FakeProcess(FakeMemory(data: pages(1..<5))))
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        let (kept, rounds, kind) = try Self.preCopy(destination)
        #expect(kept.isEmpty && rounds.isEmpty && kind == .none)
        _ = try destination.reachGrant()
        destination.vanish()
    }

    @Test func theOperatorMayForbidIt() throws {
        let tracker = FakeTracker([], last: SourceRound(written: PageSet(), dropped: PageSet()), memory: FakeMemory())
        let server = try ServerUnderTest(FakeProcess(tracker: tracker)) { $0.preCopy = false }
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        #expect(try Self.preCopy(destination).tracker == .none)
        #expect(!server.process.done.contains(.tracked))
        destination.vanish()
    }

    @Test func aDestinationThatVanishesLeavesNoTraceAndAnotherMayCome() throws {
        let memory = FakeMemory(data: pages(0..<4096))
        let tracker = FakeTracker(
            [Self.round(pages(0..<4096))],
            last: SourceRound(written: PageSet(), dropped: PageSet()),
            memory: memory
        )
        let server = try ServerUnderTest(FakeProcess(memory, tracker: tracker))
        let first = try ScriptedDestination(port: server.port)
        try first.openPageConnections()
        try first.send(.preCopy(Self.request))
        try wait(for: "the tracker") { server.process.done.contains(.tracked) }
        first.vanish()
        try wait(for: "its end") { server.process.done.contains(.untracked) }
        let second = try ScriptedDestination(port: server.port)
        try second.openPageConnections()
        _ = try second.reachGrant()
        #expect(server.process.done == [.examined, .tracked, .untracked, .frozen, .committed])
        second.vanish()
    }

    /// Nobody is waited for: the page server would be deaf for ten seconds.
    @Test func aDestinationThatNeverOpensABulkConnectionKeepsNobodyWaiting() throws {
        let tracker = FakeTracker([], last: SourceRound(written: PageSet(), dropped: PageSet()), memory: FakeMemory())
        let server = try ServerUnderTest(FakeProcess(tracker: tracker))
        let destination = try ScriptedDestination(port: server.port)
        try destination.send(.preCopy(Self.request))
        try wait(for: "the tracker") { server.process.done.contains(.tracked) }
        destination.vanish()
        try wait(for: "its end", within: .seconds(9)) { server.process.done.contains(.untracked) }
    }

    @Test func aTrackerThatFailsEndsTheSessionWithNothingChanged() throws {
        let failure = SessionFailure(.refused, "mapping 1000-2000 is registered with another userfaultfd")
        let tracker = FakeTracker(
            [.failure(failure)],
            last: SourceRound(written: PageSet(), dropped: PageSet()),
            memory: FakeMemory()
        )
        let server = try ServerUnderTest(FakeProcess(tracker: tracker))
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        try destination.send(.preCopy(Self.request))
        guard case .abort(let code, let text) = try destination.receive() else { throw TestFailure("no abort") }
        #expect(code == 78)
        #expect(text.contains("another userfaultfd"))
        #expect(try server.outcome().outcome.failure?.code == .refused)
        #expect(server.process.done == [.examined, .tracked, .untracked])
    }

    @Test func neitherASecondTimeNorAfterTheFreeze() throws {
        for isSecond in [true, false] {
            let server = try ServerUnderTest(FakeProcess(FakeMemory(data: pages(1..<5))))
            let destination = try ScriptedDestination(port: server.port)
            try destination.openPageConnections()
            if isSecond { _ = try Self.preCopy(destination) } else { _ = try destination.describe() }
            try destination.send(.preCopy(Self.request))
            guard case .abort(let code, let text) = try destination.receive() else { throw TestFailure("no abort") }
            #expect(code == 76)
            #expect(text.contains("preCopy"))
            destination.vanish()
        }
    }

    @Test func noMorePagesThanTheDestinationKeeps() throws {
        let memory = FakeMemory(data: pages(0..<1000))
        let tracker = FakeTracker(
            [Self.round(pages(0..<1000))],
            last: SourceRound(written: PageSet(), dropped: PageSet()),
            memory: memory
        )
        let server = try ServerUnderTest(FakeProcess(memory, tracker: tracker))
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        let small = PreCopyRequest(rounds: 5, maximumPause: 0, maximumPages: 300)
        let kept = try Self.preCopy(destination, small).pages
        #expect(!kept.isEmpty && kept.count <= 300)
        _ = try destination.reachGrant()
        let (unchanged, digest) = try Self.drain(destination, kept)
        #expect(unchanged.count == UInt64(kept.count))
        #expect(digest.count == 1000)
        destination.vanish()
    }
}
