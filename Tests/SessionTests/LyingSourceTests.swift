// SPDX-License-Identifier: Apache-2.0
import FrameTransport
import LinuxSystem
import Logging
import PageWire
import Paging
import Reporting
import TestSupport
import Testing

@testable import LazyRestore
@testable import PageServer

/// Promise 6 against a source that is certified and misbehaves, and pages that change on the way: a real process, a true page
/// server, and what changes its words in between.
@Suite(.serialized, .timeLimit(.minutes(3)), .enabled(if: Machine.isRoot, "needs root: it traces and builds processes"))
struct LyingSourceTests {
    /// Alters frames of pages; says whether it did.
    struct Change: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let kind: FrameKind
        let alter: @Sendable (inout PagesToAlter) -> Void

        init(_ name: String, _ kind: FrameKind, _ alter: @escaping @Sendable (inout PagesToAlter) -> Void) {
            testDescription = name
            self.kind = kind
            self.alter = alter
        }

        /// Alters the first frame of its kind; `count` says how many it was.
        func once(_ count: Lock<Int>) -> LyingSource.Lie {
            { connection, sent, bytes in
                guard sent == kind, count.withLock({ $0 == 0 }), var pages = try? PagesToAlter(bytes, on: connection)
                else { return bytes }
                count.withLock { $0 += 1 }
                alter(&pages)
                return pages.bytes
            }
        }
    }

    /// What happens to pages behind the source's digest.
    static let corruptions = [
        Change("a bit of a page that a thread waits for", .pages) { $0.content[1234] ^= 0x10 },
        Change("a bit of a streamed page", .pageRun) { $0.content[$0.content.count - 1] ^= 1 },
        Change("a streamed page's address", .pageRun) { pages in
            pages.frame.address = VirtualAddress(pages.frame.address.rawValue ^ 0x1000)
        },
        Change("two pages exchanged", .pageRun) { pages in
            guard pages.frame.count > 1 else {
                pages.content[0] ^= 1
                return
            }
            pages.content = Array(pages.content[4096..<8192] + pages.content[..<4096] + pages.content[8192...])
        },
        Change("a digest", .pages) { pages in
            let (high, low) = pages.frame.digest.value
            pages.frame.digest = PageDigest(count: pages.frame.digest.count, high: high, low: low ^ 1)
        },
    ]

    @Test(arguments: corruptions) func whatChangesOnceOnTheWayIsAskedForAgain(_ change: Change) throws {
        let changes = Lock(0)
        try move(change.once(changes)) { move in
            try move.letItWork()
            try move.endsRight(reconnects: 1)
            #expect(changes.withLock { $0 } == 1, "no such frame")
        }
    }

    /// Neither connection has ended, and the source takes what it has sent for sent.
    @Test(arguments: [FrameKind.pages, .pageRun]) func whatNeverComesIsAskedForAgain(_ kind: FrameKind) throws {
        let withheld = Lock(0)
        try move { _, sent, bytes in
            guard sent == kind, withheld.withLock({ $0 == 0 }) else { return bytes }
            withheld.withLock { $0 += 1 }
            return []
        } check: { move in
            // A thread that needs what the stream owes would ask for it.
            if kind == .pageRun {
                try move.destination.events.wait(for: "every page") { if case .complete = $0 { true } else { false } }
            }
            try move.letItWork()
            try move.endsRight(reconnects: 1)
            #expect(withheld.withLock { $0 } == 1, "no such frame")
        }
    }

    /// Every kind of frame that says what is in its pages.
    @Test(arguments: FrameKind.allCases.filter(\.statesContents)) func nobodyGetsPagesOfAnotherDigest(_ kind: FrameKind)
        throws
    {
        var memory = FakeMemory()
        memory.data.insert(0x100..<0x110)
        memory.zero.insert(0x200..<0x210)
        let server = try ServerUnderTest(FakeProcess(memory))
        let liar = try LyingSource(infrontOf: server.port) { connection, sent, bytes in
            guard sent == kind, var pages = try? PagesToAlter(bytes, on: connection) else { return bytes }
            let (high, low) = pages.frame.digest.value
            pages.frame.digest = PageDigest(count: pages.frame.digest.count, high: high ^ 1, low: low)
            return pages.bytes
        }
        let destination = try ScriptedDestination(port: liar.port)
        try destination.openPageConnections()
        _ = try destination.reachGrant()
        var digest = PageDigest()
        do {
            if kind == .pages || kind == .zeroPages {
                _ = try destination.fetch(kind == .pages ? 0x104 : 0x204)
            } else {
                _ = try destination.drain(into: &digest)
            }
            Issue.record("pages were handed out")
        } catch ChannelError.corrupted(let run) {
            #expect(memory.existing.count(in: run.pageNumbers) == run.count)
        }
        destination.vanish()
        try liar.end()
        #expect(try server.outcome().outcome.exitStatus == 74)
    }

    @Test func aSourceThatSendsNothingRightIsGivenUp() throws {
        let changes = Lock(0)
        try move { connection, kind, bytes in
            guard kind == .pageRun, var pages = try? PagesToAlter(bytes, on: connection) else { return bytes }
            changes.withLock { $0 += 1 }
            pages.content[0] ^= 1
            return pages.bytes
        } check: { move in
            try wait(for: "the last try") { changes.withLock { $0 } > RestoreShared.maximumCorruptions }
            try move.endsWithoutCompletion()
            #expect(move.lines() == ["ready"], "it never saw a wrong page, and never got a right one")
        }
    }

    @Test func whatChangesDuringPreCopyUndoesTheMove() throws {
        try move(preCopy: true) { connection, kind, bytes in
            guard kind == .pageRun, var pages = try? PagesToAlter(bytes, on: connection) else { return bytes }
            pages.content[0] ^= 1
            return pages.bytes
        } check: { move in
            let (outcome, _) = try move.destination.outcome()
            #expect(outcome.exitStatus == 75)
            #expect(outcome.failure?.message.contains("digest") == true, "\(outcome)")
            try move.sourceRunsOn(isServed: true)
        }
    }

    /// Lies whose digest is right can only be found by who knows the truth: the source does not accept the COMPLETE.
    static let lies = [
        Change("another byte", .pageRun) { pages in
            pages.content[0] ^= 1
            pages.frame.digest = pages.trueDigest
        },
        Change("zeros for a page of data", .pageRun) { pages in
            pages.content = []
            pages.frame.kind = .zeroRun
            pages.frame.digest = pages.trueDigest
        },
        Change("zeros for a page that a thread waits for", .pages) { pages in
            pages.content = []
            pages.frame.kind = .zeroPages
            pages.frame.digest = pages.trueDigest
        },
    ]

    @Test(arguments: lies) func aLieInOrderNeverFreesTheTruth(_ change: Change) throws {
        let changes = Lock(0)
        try move(change.once(changes)) { move in
            try move.letItWork()
            let (served, _) = try move.server.outcome()
            #expect(changes.withLock { $0 } == 1, "no such frame")
            guard served.exitStatus == 74 else {
                // The page had come on the other connection before, and the lie was dropped.
                #expect(served == Outcome())
                _ = try move.destination.outcome()
                #expect(move.lines() == ["ready", "right"])
                return
            }
            try move.sourceStaysFrozen()
            // What a program does with a wrong page nobody knows.
            try? move.destination.signal(.terminate)
            try? move.destination.signal(.terminate)
            #expect(try move.destination.outcome().statistics.result != "complete")
        }
    }

    /// Breaks a rule of the page protocol behind the grant.
    struct Breach: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let kind: FrameKind
        let word: @Sendable ([UInt8]) -> [UInt8]

        init(_ name: String, in kind: FrameKind, _ word: @escaping @Sendable ([UInt8]) -> [UInt8]) {
            testDescription = name
            self.kind = kind
            self.word = word
        }
    }

    private static func altered(_ bytes: [UInt8], at offset: Int, to value: UInt8) -> [UInt8] {
        var bytes = bytes
        bytes[offset] = value
        return bytes
    }

    /// A frame of one page of zeros at an address.
    private static func zeros(_ kind: FrameKind, at address: UInt64) -> [UInt8] {
        var digest = PageDigest()
        digest.addZeros(address: VirtualAddress(address))
        let frame = PageFrame(kind: kind, address: VirtualAddress(address), count: 1, digest: digest)
        var bytes = [UInt8](repeating: 0, count: PageFrame.byteCount)
        var span = bytes.mutableSpan
        frame.encode(into: &span)
        return bytes
    }

    static let breaches = [
        Breach("a page outside of lazy memory", in: .pageRun) { zeros(.zeroRun, at: 0x1000) + $0 },
        Breach("a frame of a kind that does not exist", in: .pageRun) { altered($0, at: 4, to: 0x7f) },
        Breach("a frame of another connection", in: .pageRun) { altered($0, at: 4, to: FrameKind.pages.rawValue) },
        Breach("a length that is not that of its pages", in: .pageRun) { altered($0, at: 24, to: 65) },
        Breach("a length of 4 GiB", in: .pageRun) { altered($0, at: 3, to: 0xff) },
        Breach("a second greeting", in: .pageRun) { Message.welcome(session: .none).encoded() + $0 },
        Breach("a second page map", in: .pageRun) { Message.pageMap(runs: [], isLast: true).encoded() + $0 },
        Breach("drained of other pages", in: .pageRun) { Message.drained(pages: 1).encoded() + $0 },
        Breach("pages called pre-copied that never came", in: .pageRun) { bytes in
            guard let pages = try? PagesToAlter(bytes, on: .bulk) else { return bytes }
            return Message.preCopyMap(runs: [pages.frame.run], isLast: true).encoded() + bytes
        },
        Breach("a page called absent that exists", in: .pages) { bytes in
            guard var pages = try? PagesToAlter(bytes, on: .fault) else { return bytes }
            pages.content = []
            pages.frame.kind = .absentPages
            pages.frame.digest = PageDigest()
            return pages.bytes
        },
    ]

    @Test(arguments: breaches) func aBrokenRuleEndsTheSessionAndFreesNothing(_ breach: Breach) throws {
        let breaches = Lock(0)
        try move { _, kind, bytes in
            guard kind == breach.kind, breaches.withLock({ $0 == 0 }) else { return bytes }
            breaches.withLock { $0 += 1 }
            return breach.word(bytes)
        } check: { move in
            try move.endsWithoutCompletion()
            #expect(breaches.withLock { $0 } == 1, "no such frame")
        }
    }

    /// Breaks a rule before the grant.
    static let earlyBreaches = [
        Breach("a description of another length", in: .description) { altered($0, at: 16, to: $0[16] ^ 1) },
        Breach("a description that is cut off", in: .description) { _ in [] },
        Breach("a description with a changed byte", in: .description) { altered($0, at: 40, to: $0[40] ^ 0x80) },
        Breach("an eager page with a changed byte", in: .eagerPages) { bytes in
            altered(bytes, at: bytes.count - 1, to: bytes[bytes.count - 1] ^ 1)
        },
        Breach("a tally of other pages", in: .handedOver) { altered($0, at: 24, to: $0[24] ^ 1) },
        Breach("a grant that nobody asked for", in: .handedOver) { Message.grant(guards: []).encoded() + $0 },
    ]

    /// It is heard in place of the grant, when that may have been given: the copy goes, and the source is the operator's to settle.
    @Test func anAcknowledgementInPlaceOfTheGrantLetsNothingRun() throws {
        try move { _, kind, bytes in
            kind == .handedOver ? bytes + Message.acknowledged.encoded() : bytes
        } check: { move in
            let (outcome, _) = try move.destination.outcome()
            #expect([74, 75, 76].contains(outcome.exitStatus), "\(outcome)")
            #expect(!move.destination.events.all.contains { if case .running = $0 { true } else { false } })
            let (served, _) = try move.server.outcome()
            if served.exitStatus == 74 { try move.sourceStaysFrozen() } else { try move.sourceRunsOn() }
        }
    }

    @Test(arguments: earlyBreaches) func aRuleBrokenBeforeTheGrantUndoesTheMove(_ breach: Breach) throws {
        try move { _, kind, bytes in
            kind == breach.kind ? breach.word(bytes) : bytes
        } check: { move in
            let (outcome, _) = try move.destination.outcome()
            #expect([65, 75, 76].contains(outcome.exitStatus), "\(outcome)")
            #expect(!move.destination.events.all.contains { if case .running = $0 { true } else { false } })
            try move.sourceRunsOn()
        }
    }
}

// MARK: - One move

extension LyingSourceTests {
    /// A process, its true page server, and a destination that hears what the test makes of its words.
    struct Move {
        let victim: TestProcess
        let folder: Scratch
        let server: ServerUnderTest
        let destination: DestinationUnderTest

        func lines() -> [String] {
            ((try? readText(folder.file("output"))) ?? "").split(separator: "\n").map(String.init)
        }

        /// It has begun to run: from now on it changes and reads its memory.
        func letItWork() throws {
            try destination.events.wait(for: "running") { if case .running = $0 { true } else { false } }
            try writeFile(folder.file("go"), "")
        }

        /// The process ends at the destination with every byte right, after so many losses, and nothing is left at the source.
        func endsRight(reconnects: Int) throws {
            let (outcome, statistics) = try destination.outcome()
            #expect(lines() == ["ready", "right"])
            #expect(outcome == Outcome(exitStatus: 5))
            #expect(statistics.result == "complete")
            #expect(statistics.reconnects == reconnects, "found before it was installed")
            #expect(try server.outcome().outcome == Outcome())
        }

        /// The session ends without COMPLETE; what is left of the copy goes, and the process at the source is all right.
        func endsWithoutCompletion() throws {
            try letItWork()
            try destination.events.wait(for: .lost)
            // It waits for pages that will not come: twice is a decision.
            try destination.signal(.terminate)
            // The first is passed on, and may have been enough.
            try? destination.signal(.terminate)
            let (_, statistics) = try destination.outcome()
            #expect(statistics.result != "complete")
            try sourceStaysFrozen()
        }

        /// It was granted: it never goes on by itself.
        func sourceStaysFrozen() throws {
            #expect(try server.outcome().outcome.exitStatus == 74)
            try wait(for: "the stop") { processState(victim.pid) == "T" }
            #expect(!server.events.all.contains { if case .complete = $0 { true } else { false } })
        }

        /// It goes on as if nothing had happened, and finds every byte right.
        ///
        /// - Parameter isServed: the page server waits for another destination, until the process has ended.
        func sourceRunsOn(isServed: Bool = false) throws {
            if !isServed { #expect(try server.outcome().outcome.exitStatus != 0) }
            try writeFile(folder.file("go"), "")
            try wait(for: "the process's result") { lines() == ["ready", "right"] }
            if isServed { #expect(try server.outcome().outcome.exitStatus == 66) }
        }
    }

    /// Moves a process whose threads touch pages while others are streamed.
    private func move(
        preCopy: Bool = false,
        _ lie: @escaping LyingSource.Lie,
        check: (Move) throws -> Void
    ) throws {
        let folder = try Scratch("lie")
        let options = TestProcess.Options(output: .file(folder.file("output")))
        try withProcess(BuiltProduct.victim, ["memory-events", folder.file("go"), "32", "300"], options: options) {
            victim in
            try wait(for: "ready") { (try? readText(folder.file("output")))?.contains("ready") == true }
            let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            let plan = preCopy ? TrackerPlan(PageServerOptions(pid: victim.pid), logger: quiet) : .untracked
            let source = CheckpointedProcess(pid: victim.pid, freezeTimeout: patience, plan: plan)
            let server = try ServerUnderTest(source: source, pid: victim.pid) { $0.hold = .seconds(1) }
            let liar = try LyingSource(infrontOf: server.port, lie)
            defer { #expect(throws: Never.self) { try liar.end() } }
            let destination = try DestinationUnderTest(port: liar.port) { options in
                if !preCopy { options.preCopyRounds = 0 }
                options.pageTimeouts = (.seconds(2), .seconds(4))
            }
            try check(Move(victim: victim, folder: folder, server: server, destination: destination))
        }
    }
}
