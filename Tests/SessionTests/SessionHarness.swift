// SPDX-License-Identifier: Apache-2.0
import CLinux
import FrameTransport
import Glibc
import LinuxSystem
import Logging
import PageWire
import Paging
import Reporting
import TLSSession
import TestSupport

@testable import LazyRestore
@testable import PageServer

/// Events in the order in which they were reported.
final class EventLog: Sendable {
    private let events = Lock<[StatusEvent]>([])

    var sink: StatusSink {
        StatusSink { [self] event in events.withLock { $0.append(event) } }
    }

    var all: [StatusEvent] { events.withLock { $0 } }

    /// Waits for an event and returns it.
    @discardableResult
    func wait(
        for what: String,
        within limit: Duration = patience,
        _ matches: @escaping (StatusEvent) -> Bool
    ) throws -> StatusEvent {
        try TestSupport.wait(for: "\(what), saw \(all)", within: limit) { all.contains(where: matches) }
        return all.first(where: matches) ?? .lost
    }

    func wait(for event: StatusEvent) throws {
        try wait(for: "\(event)") { $0 == event }
    }
}

/// A page server over loopback, on a thread of its own.
final class ServerUnderTest: Sendable {
    let process: FakeProcess
    let events: EventLog
    let port: UInt16
    private let ended: EventDescriptor
    private let result = Lock<(outcome: Outcome, statistics: SessionStatistics)?>(nil)

    convenience init(
        _ process: FakeProcess = FakeProcess(),
        within limit: Duration = patience,
        _ events: EventLog = EventLog(),
        logger: Logger? = nil,
        _ change: (inout PageServerOptions) -> Void = { _ in }
    ) throws {
        try self.init(source: process, fake: process, pid: 1, within: limit, events, logger: logger, change)
    }

    init(
        source: sending any SourceProcess,
        fake: FakeProcess = FakeProcess(),
        pid: Int32,
        within limit: Duration = patience,
        _ events: EventLog = EventLog(),
        logger: Logger? = nil,
        _ change: (inout PageServerOptions) -> Void = { _ in }
    ) throws {
        self.process = fake
        self.events = events
        let ended = try EventDescriptor()
        self.ended = ended
        var options = PageServerOptions(pid: pid)
        options.tls.directory = try Certificates.directory()
        options.hold = .milliseconds(100)
        options.linger = .milliseconds(100)
        change(&options)
        let result = result
        let session = PageServerSession(
            options: options,
            process: source,
            logger: logger ?? Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            status: events.sink
        )
        let handover = try Handover<PageServerSession>()
        handover.put(session)
        try NamedThread("page-server") {
            guard let session = handover.take() else { return }
            let ending = session.run()
            result.withLock { $0 = ending }
            ended.signal()
        }.detach()
        let listening = try events.wait(for: "listening", within: limit) {
            if case .listening = $0 { true } else { false }
        }
        guard case .listening(let port) = listening else { throw TestFailure("no port") }
        self.port = port
    }

    /// Waits for the end.
    func outcome() throws -> (outcome: Outcome, statistics: SessionStatistics) {
        guard try ended.wait(until: .after(patience)), let result = result.withLock({ $0 }) else {
            throw TestFailure("the page server did not end; \(events.all), \(process.done)")
        }
        return result
    }
}

/// A destination on a thread of its own.
final class DestinationUnderTest: Sendable {
    let events = EventLog()
    private let ended: EventDescriptor
    private let result = Lock<(outcome: Outcome, statistics: SessionStatistics)?>(nil)
    private let thread = Lock<Int32?>(nil)

    init(port: UInt16, _ change: (inout RestoreOptions) -> Void = { _ in }) throws {
        let ended = try EventDescriptor()
        self.ended = ended
        var options = RestoreOptions(port: port)
        options.streams = 1
        options.tls.directory = try Certificates.directory()
        options.newPIDNamespace = true
        options.answerTimeout = .seconds(10)
        options.acknowledgementTimeout = .seconds(1)
        change(&options)
        let handover = try Handover<RestoreSession>()
        handover.put(
            RestoreSession(
                options: options,
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
                status: events.sink
            )
        )
        let (result, thread) = (result, thread)
        try NamedThread("restore") {
            guard let session = handover.take() else { return }
            let name = try? readLink("/proc/thread-self").split(separator: "/").last
            thread.withLock { $0 = name.flatMap { Int32($0) } }
            let ending = session.run()
            result.withLock { $0 = ending }
            ended.signal()
        }.detach()
    }

    /// Sends a signal to its thread, as an operator would to a program, and waits until it was taken.
    func signal(_ signal: Signal) throws {
        guard let tid = thread.withLock({ $0 }) else { throw TestFailure("the thread has not begun") }
        guard clinux_tgkill(getpid(), tid, signal.rawValue) == 0 else { throw TestFailure("tgkill \(tid)") }
        try TestSupport.wait(for: "\(signal) to be taken") {
            guard let status = try? readText("/proc/self/task/\(tid)/status") else { return true }
            return status.contains("SigPnd:\t0000000000000000")
        }
    }

    func outcome() throws -> (outcome: Outcome, statistics: SessionStatistics) {
        guard try ended.wait(until: .after(.seconds(45))), let result = result.withLock({ $0 }) else {
            throw TestFailure("the restore did not end; \(events.all)")
        }
        return result
    }
}

/// A destination whose every step the test says.
final class ScriptedDestination {
    let link: PageServerLink
    let control: FrameChannel
    let session: SessionIdentifier
    private(set) var fault: FrameChannel?
    private(set) var bulk: FrameChannel?
    /// What the bulk connection has named before the page map was complete.
    private(set) var lateGuards: [PageRun] = []
    private var lastSign = MonotonicTime.now
    /// Answers to signs of life that are still to come.
    private var pongs = 0

    init(
        port: UInt16,
        session: SessionIdentifier = .none,
        _ change: (inout RestoreOptions) -> Void = { _ in }
    ) throws {
        var options = RestoreOptions(port: port)
        options.streams = 1
        options.tls.directory = try Certificates.directory()
        change(&options)
        link = try PageServerLink(options, stop: EventDescriptor())
        (control, self.session) = try link.open(.control, session: session)
    }

    /// Says what is missing, or what is there, and waits until the source knows.
    func resume(_ pages: PageSet, _ options: ResumeOptions) throws {
        var runs: [PageRun] = []
        var position: UInt64 = 0
        while let run = pages.nextRun(from: position) {
            position = run.upperBound
            runs.append(PageRun(pageNumbers: run))
        }
        // Piece by piece.
        for run in runs { try send(.resume(runs: [run], options: options)) }
        try send(.resume(runs: [], options: options.union(.last)))
        guard case .resumed = try receive() else { throw TestFailure("not resumed") }
    }

    func openPageConnections() throws {
        fault = try link.open(.fault, session: session).channel
        bulk = try link.open(.bulk, session: session).channel
    }

    func send(_ message: Message) throws {
        try control.send(message, until: .after(patience))
    }

    func receive(_ channel: FrameChannel? = nil) throws -> Message {
        while true {
            guard case .message(let message) = try (channel ?? control).receive(until: .after(patience)) else {
                throw TestFailure("pages where a message was expected")
            }
            guard case .pong = message, channel == nil, pongs > 0 else { return message }
            pongs -= 1
        }
    }

    /// Says every few seconds that it lives, as destinations do: with a sanitizer a stream takes longer than one may be silent.
    func showLife() throws {
        guard MonotonicTime.now - lastSign > .seconds(2) else { return }
        lastSign = .now
        pongs += 1
        try send(.ping)
    }

    /// Asks for the description and takes everything up to the hand-over.
    func describe(_ options: DescribeOptions = []) throws -> (description: [UInt8], handedOver: PageTally) {
        try send(.describe(options))
        var description: [UInt8] = []
        while true {
            switch try receive() {
            case .description(_, _, let bytes): description += bytes
            case .eagerPages: continue
            case .handedOver(let tally): return (description, tally)
            case let other: throw TestFailure("unexpected \(other.kind)")
            }
        }
    }

    /// Everything up to the grant.
    func reachGrant() throws -> [PageRun] {
        _ = try describe()
        try send(.built)
        guard case .grant(let guards) = try receive() else { throw TestFailure("no grant") }
        return guards
    }

    /// Asks for pages and takes all answers.
    ///
    /// - Parameter expected: at the end, which no thread waits for.
    func fetch(
        _ page: UInt64,
        count: UInt32 = 1,
        expected: UInt32 = 0,
        request: UInt64 = 1
    ) throws -> [(frame: PageFrame, bytes: [UInt8])] {
        guard let fault else { throw TestFailure("no fault connection") }
        let buffer = try TransferBuffer(capacity: FrameChannel.contentOffset)
        let frame = PageFrame(
            kind: .requestPages,
            request: request,
            address: VirtualAddress(page << 12),
            count: count,
            remaining: expected
        )
        try fault.send(frame, from: buffer, until: .after(patience))
        var answers: [(PageFrame, [UInt8])] = []
        while true {
            let answer = try Self.pages(on: fault)
            answers.append(answer)
            if answer.frame.remaining == 0 || answer.frame.kind == .failed { return answers }
        }
    }

    static func pages(on channel: FrameChannel) throws -> (frame: PageFrame, bytes: [UInt8]) {
        guard case .pages(let frame) = try channel.receive(until: .after(patience)) else {
            throw TestFailure("a message where pages were expected")
        }
        let start = FrameChannel.contentOffset
        let bytes = channel.buffer.withBytes(start..<start + frame.contentByteCount) { span in
            span.indices.map { span[$0] }
        }
        return (frame, bytes)
    }

    /// Takes the page map and every page of the stream; pages of the fault connection are in `digest` already.
    func drain(into digest: inout PageDigest, without seen: PageSet = PageSet()) throws -> PageSet {
        guard let bulk else { throw TestFailure("no bulk connection") }
        var map = PageSet()
        while true {
            try showLife()
            switch try bulk.receive(until: .after(patience)) {
            case .message(.pageMap(let runs, _)):
                for run in runs {
                    let first = run.address.rawValue >> 12
                    map.insert(first..<first + run.count)
                }
            case .message(.guardMap(let runs)): lateGuards += runs
            case .message(.drained(let pages)):
                guard pages == map.count else { throw TestFailure("drained says \(pages), the map \(map.count)") }
                return map
            case .pages(let frame):
                for index in 0..<UInt64(frame.count) where !seen.contains(frame.address.rawValue >> 12 + index) {
                    let address = VirtualAddress(frame.address.rawValue + index << 12)
                    let start = FrameChannel.contentOffset + Int(index) * 4096
                    if frame.kind == .zeroRun {
                        digest.addZeros(address: address)
                    } else {
                        bulk.buffer.withBytes(start..<start + 4096) { digest.add(address: address, page: $0) }
                    }
                }
            case .message(let other): throw TestFailure("unexpected \(other.kind)")
            case .nothing: continue
            }
        }
    }

    /// Ends everything, as a destination that dies.
    func vanish() {
        for channel in [control, fault, bulk] { channel?.connection.close() }
    }
}
