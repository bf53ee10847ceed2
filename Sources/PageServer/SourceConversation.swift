// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import Logging
internal import PageWire
internal import Paging
internal import ProcessImage
internal import Reporting
internal import TLSSession

/// One session over one control connection, on the tracer thread: does what ``SourceCommit`` decides.
///
/// Whether the process may run is decided nowhere else than in that machine; this class freezes, sends, thaws and kills as it says.
final class SourceConversation {
    /// How a conversation ended.
    enum Ending {
        /// Before the freeze: the process runs, and another destination may come.
        case nothingHappened
        /// The command is to end like this.
        case finished(SessionFailure?)
    }

    /// How long an authorised destination may hold the session before it asks for the description.
    private static let describeTimeout = Duration.seconds(60)

    let process: any SourceProcess
    let options: PageServerOptions
    let session: ServedSession
    let loop: ControlLoop
    /// What an operator is told when this program is no more.
    let record: SessionRecorder?
    let status: StatusSink
    let logger: Logger

    var commit = SourceCommit()
    private var frozen: (any FrozenSource)?
    private var deadline: Deadline
    /// Which control connection of the session is attached.
    var generation: UInt64 = 0
    /// A control connection that has come to take the session up again, until it is known which pages exist.
    var arrived: ArrivedControl?
    /// What the destination says of what it lacks, while it says so.
    var resumption: Resumption?
    /// While the destination is lost: how long it is waited for.
    var lostUntil: Deadline?
    /// Guard pages that the grant names.
    private var guards: [PageRun] = []
    /// What an equal COMPLETE was equal to.
    private var accepted: PageTally?
    private var wasAskedToStop = false
    private var layout: Handover<Result<[PageRun], SessionFailure>>?
    /// While the process is tracked.
    var tracker: (any SourceTracker)?
    var preCopyState = PreCopyState.none

    /// What happened, for `--stats`.
    var statistics = SessionStatistics()

    init(
        process: any SourceProcess,
        options: PageServerOptions,
        session: ServedSession,
        loop: ControlLoop,
        record: SessionRecorder?,
        status: StatusSink,
        logger: Logger
    ) {
        self.process = process
        self.options = options
        self.session = session
        self.loop = loop
        self.record = record
        self.status = status
        self.logger = logger
        deadline = .after(Self.describeTimeout)
        statistics.pid = options.pid
    }

    /// When the destination has to have said something.
    func setDeadline(_ deadline: Deadline) {
        self.deadline = deadline
    }

    /// Takes what pre-copy did into the statistics.
    func preCopied(_ sent: PreCopied) {
        statistics.tracker = "\(tracker?.kind ?? .none)"
        statistics.preCopyRounds = sent.rounds.map { ($0.pages, .nanoseconds(Int64(clamping: $0.duration))) }
    }

    /// Tells scripts and the operator.
    func report(_ event: StatusEvent) {
        status.report(event)
        logger.report(event)
    }

    /// Talks until the session ends.
    func run(_ control: ArrivedControl) -> Ending {
        let channel = control.channel
        generation = control.generation
        let peer = channel.connection.peer?.description ?? "?"
        statistics.tlsVersion = channel.connection.version
        statistics.tlsCipher = channel.connection.cipher
        report(.connected(peer: peer))
        do throws(SystemCallError) {
            try loop.attach(channel)
        } catch {
            return .finished(SessionFailure(.systemCall, "\(error)"))
        }
        defer { leave() }
        FaultPoint.hit(.sourceControlArrived)
        while true {
            if let ending = step() { return ending }
        }
    }

    private func leave() {
        endTracking()
        dropArrived()
        hangUp()
    }

    /// Closes the control connection, if there is one.
    func hangUp() {
        guard let channel = loop.channel else { return }
        try? loop.detach()
        session.ended(channel)
    }

    private func step() -> Ending? {
        do throws(ChannelError) {
            switch try loop.next(until: deadline.earlier(silenceEnds)) {
            case .message(let message): return try handle(message)
            case .signal(let signal): return stopRequested(by: signal)
            case .ready(PageServerSession.endToken): return processEnded()
            case .ready(PageServerSession.preCopyToken): return preCopyEnded()
            case .ready(PageServerSession.controlToken): return controlReturned()
            case .ready(PageServerSession.mapToken): return mapIsKnown()
            case .ready(PageServerSession.abandonedToken): return abandoned()
            case .ready: return nil
            case .timedOut where isSilent: throw .timedOut
            case .timedOut where !deadline.hasPassed: return nil
            case .timedOut where preCopyGoesOn(): return nil
            case .timedOut where loop.channel == nil: return waitedLongEnough()
            case .timedOut: throw .timedOut
            }
        } catch {
            return broke(error)
        }
    }

    private func handle(_ message: Message) throws(ChannelError) -> Ending? {
        if resumption != nil {
            guard case .resume(let runs, let options) = message else { throw .unexpected(message.kind) }
            return try resume(runs, options)
        }
        switch message {
        case .preCopy(let request): return try preCopy(request)
        case .describe(let options): return try describe(options)
        case .built: return try grant()
        case .running: return try running()
        case .complete(let claim): return try complete(claim)
        default:
            throw .unexpected(message.kind)
        }
    }
}

// MARK: - Freeze and description

extension SourceConversation {
    private func describe(_ options: DescribeOptions) throws(ChannelError) -> Ending? {
        // What the thread of the bulk connection has said may wait behind what the destination says to it.
        if let ending = preCopyEnded() { return ending }
        if case .running = preCopyState { throw .unexpected(.describe) }
        switch commit.descriptionRequested() {
        case .violation(let resolution): return broke(.unexpected(.describe), resolution)
        case .freeze: break
        }
        do throws(SessionFailure) {
            let frozen = try process.freeze(sharedMemoryAhead: options.contains(.sharedMemoryAhead))
            self.frozen = frozen
            try noteGuards(of: frozen)
            session.froze(frozen.memory)
            // What a device has written nobody has seen: then nothing counts as unchanged.
            try startScan(of: frozen.memory, preCopied: frozen.usesDirectIO ? PreCopied() : preCopied)
            report(.frozen)
            FaultPoint.hit(.sourceFrozen)
            try note(.frozen)
            if options.contains(.eager) { session.streamMayBegin.signal() }
            let description = try frozen.encodedDescription
            try sendDescription(description)
            try sendEagerPages(of: frozen)
            FaultPoint.hit(.sourceDescribed)
        } catch {
            return undo(commit.failed(), error)
        }
        deadline = .after(self.options.buildTimeout)
        return nil
    }

    /// Guards that are more than a grant can name are refused while everything can still be undone.
    private func noteGuards(of frozen: any FrozenSource) throws(SessionFailure) {
        let guards = frozen.guards
        guard guards.count <= PageProtocol.maximumGuards else {
            throw SessionFailure(
                .refused,
                "\(guards.count) guard ranges (MADV_GUARD_INSTALL) are more than the \(PageProtocol.maximumGuards) that are carried"
            )
        }
        session.ledger.knows(guards: guards)
    }

    /// Finds out on a thread of its own which pages exist and which are guards; nobody waits for it but the stream.
    private func startScan(of memory: any SourceMemory, preCopied sent: PreCopied) throws(SessionFailure) {
        do throws(SystemCallError) {
            let session = session
            let tracker = tracker
            try session.start(
                "scan-\(session.pid)",
                urgency: .background,
                keeping: ThreadPrivileges.tracker
            ) {
                do throws(SessionFailure) {
                    var pages = PageSet()
                    try memory.makeReader().survey {
                        pages.insert($0.pageNumbers)
                    } guards: {
                        session.ledger.found(guards: $0.pageNumbers)
                    }
                    session.ledger.mapScanned(pages, preCopied: try sent.unchanged(by: tracker, among: pages))
                } catch {
                    session.ledger.mapFailed(error)
                }
            }
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
    }

    private func sendDescription(_ bytes: [UInt8]) throws(SessionFailure) {
        var offset = 0
        while offset < bytes.count {
            let end = min(bytes.count, offset + PageProtocol.maximumChunk)
            let chunk = Array(bytes[offset..<end])
            try sendBeforeGrant(.description(total: UInt64(bytes.count), offset: UInt64(offset), bytes: chunk))
            offset = end
        }
    }

    private func sendEagerPages(of frozen: any FrozenSource) throws(SessionFailure) {
        var digest = PageDigest()
        while let pages = try frozen.nextEagerPages() {
            digest.add(pages)
            if pages.target == .process, !pages.bytes.isEmpty {
                let end = pages.address + UInt64(pages.bytes.count) + PageSize.base - 1
                session.ledger.willGoAhead(pages.address >> 12..<end >> 12)
            }
            let encoded: [UInt8]
            do throws(ProcessImageError) {
                encoded = try ArchiveEncoder.encode(pages)
            } catch {
                throw SessionFailure(.bug, "eager pages cannot be encoded: \(error)")
            }
            try sendBeforeGrant(.eagerPages(encoded))
        }
        statistics.pages.eager = digest.count
        try sendBeforeGrant(.handedOver(PageTally(digest)))
    }

    /// Sends while everything can still be undone; between two messages the operator may end it.
    private func sendBeforeGrant(_ message: Message) throws(SessionFailure) {
        let asked: Signal?
        do throws(ChannelError) {
            asked = try loop.nextSignal()
            if asked == nil { try loop.send(message) }
        } catch {
            throw SessionFailure(
                error.codeAtSource,
                "the destination was lost while the process was described: \(error)"
            )
        }
        if let asked { throw SessionFailure(.tryAgain, "ended by \(asked) before the grant") }
    }
}

// MARK: - Grant and completion

extension SourceConversation {
    private func grant() throws(ChannelError) -> Ending? {
        switch commit.builtArrived() {
        case .violation(let resolution): return broke(.unexpected(.built), resolution)
        case .recordGrant: break
        case .repeatGrant: return try sendGrant()
        }
        guard session.table.withLock({ $0.grantBegins() }) else { return broke(.closed, commit.connectionLost()) }
        guard let frozen else { preconditionFailure("SourceConversation: nothing is frozen") }
        do throws(SessionFailure) {
            FaultPoint.hit(.sourceBuiltArrived)
            guards = try session.ledger.guardsToGrant(limit: PageProtocol.maximumGuards)
            try note(.granted)
            FaultPoint.hit(.sourceGrantNoted)
            try frozen.commitGranted()
            FaultPoint.hit(.sourceGrantCommitted)
        } catch {
            return undo(commit.failed(), error)
        }
        switch commit.grantRecorded() {
        case .withhold(let resolution): return undo(resolution, SessionFailure(.bug, "the grant was withheld"))
        case .sendGrant: break
        }
        session.table.withLock { $0.granted() }
        report(.granted)
        deadline = .never
        session.streamMayBegin.signal()
        return try sendGrant()
    }

    private func sendGrant() throws(ChannelError) -> Ending? {
        try loop.send(.grant(guards: guards))
        FaultPoint.hit(.sourceGrantSent)
        return nil
    }

    private func running() throws(ChannelError) -> Ending? {
        switch commit.runningArrived() {
        case .violation(let resolution): return broke(.unexpected(.running), resolution)
        case .ignore: return nil
        case .reportRunning: break
        }
        statistics.pause = sinceFreeze
        FaultPoint.hit(.sourceRunningArrived)
        logger.notice("The process runs at the destination")
        return nil
    }

    private func complete(_ claim: PageTally) throws(ChannelError) -> Ending? {
        FaultPoint.hit(.sourceCompleteArrived)
        settle()
        let served = accepted ?? session.ledger.tally
        let existing = session.ledger.existingCount ?? .max
        switch commit.completeArrived(claim, served: served, existing: existing) {
        case .violation(let resolution): return broke(.unexpected(.complete), resolution)
        case .reject(let mismatch):
            logger.error("COMPLETE was not accepted; nothing is freed", metadata: ["reason": "\(mismatch)"])
            try? loop.send(.abort(code: UInt16(ExitCode.peer.rawValue), text: mismatch.description))
            return lost(because: .aborted(code: UInt16(ExitCode.peer.rawValue), text: mismatch.description))
        case .acknowledgeAgain:
            try loop.send(.acknowledged)
            return nil
        case .acknowledgeAndDispose:
            accepted = served
            noteCompletion()
            FaultPoint.hit(.sourceCompletionNoted)
            statistics.timeToResident = sinceFreeze
            do throws(ChannelError) {
                try loop.send(.acknowledged)
            } catch {
                logger.warning("The acknowledgement could not be sent", metadata: ["reason": "\(error)"])
            }
            FaultPoint.hit(.sourceAcknowledged)
            return dispose(served)
        }
    }

    /// A fault thread counts a page behind sending it, and the destination may be faster.
    ///
    /// Pre-copied pages are read once more for the digest, which takes as long as there are many of them.
    private func settle() {
        guard accepted == nil else { return }
        // What a stream that has ended has left over.
        if session.pageConnections.isZero, let reader = try? session.frozenMemory?.makeReader() {
            try? BulkService.countRest(session.ledger, reader, until: session.stop)
        }
        var counted = session.ledger.tally.pages
        var limit = Deadline.after(Self.settlingTime)
        while !session.ledger.isSettled && !limit.hasPassed {
            _ = try? session.stop.wait(until: .after(.milliseconds(1)))
            let now = session.ledger.tally.pages
            if now != counted { limit = .after(Self.settlingTime) }
            counted = now
        }
    }

    /// How long nothing may be counted before a COMPLETE is judged.
    private static let settlingTime = Duration.seconds(10)

    /// Ends the process as the operator chose; the only way to get here is an equal COMPLETE.
    ///
    /// Then the session goes on for a while, for a destination to which the acknowledgement has not come.
    private func dispose(_ served: PageTally) -> Ending? {
        guard let frozen else { preconditionFailure("SourceConversation: nothing is frozen") }
        stopServingPages()
        do throws(SessionFailure) {
            // Nothing of the tracker may be left in a process that lives on.
            if options.onComplete != .kill { endTracking() }
            switch options.onComplete {
            case .kill: try frozen.kill()
            case .stop: try frozen.leaveStopped()
            case .continue:
                try frozen.continueAsClone()
                // That two run is what was asked for: there is nothing to settle.
                record?.remove()
            }
        } catch {
            return .finished(error)
        }
        self.frozen = nil
        if let end = process.endDescriptor { try? loop.unwatch(end) }
        report(.complete(pages: served.pages, digest: served.digest))
        FaultPoint.hit(.sourceDisposed)
        deadline = .after(options.linger)
        return nil
    }

    /// Ends the page connections, and keeps the one of control.
    private func stopServingPages() {
        try? session.replaceConnections()
        loop.channel?.connection.interruption = session.connectionStop
        _ = session.pageConnections.waitUntilZero(until: .after(.seconds(10)))
    }

    /// Whether the copy may run, and the process must not.
    var isGranted: Bool { commit.state == .granted || commit.state == .running }

    private var sinceFreeze: Duration? {
        frozen.map { MonotonicTime.now - MonotonicTime(nanoseconds: $0.freezeBegan) }
    }
}

// MARK: - What goes wrong

extension SourceConversation {
    private func stopRequested(by signal: Signal) -> Ending? {
        if commit.state == .completed { return .finished(nil) }
        guard isGranted else {
            return undo(commit.stopRequested(), SessionFailure(.tryAgain, "ended by \(signal)"))
        }
        guard wasAskedToStop || loop.channel == nil else {
            wasAskedToStop = true
            logger.warning(
                "The destination still needs pages: the page server ends when all have arrived",
                metadata: [
                    "signal": "\(signal)", "remedy": "send it again to end at once and leave the process stopped",
                ]
            )
            return nil
        }
        return endGranted("ended by \(signal)")
    }

    private func broke(_ error: ChannelError) -> Ending? {
        let resolution =
            switch error {
            case .wire, .unexpected: commit.violated()
            case .aborted: commit.abortArrived()
            case .closed, .cut, .timedOut, .stopped, .corrupted, .tls, .refused, .system: commit.connectionLost()
            }
        return broke(error, resolution)
    }

    func broke(_ error: ChannelError, _ resolution: SourceCommit.Resolution) -> Ending? {
        switch resolution {
        case .leaveRunning:
            logger.notice("A destination has left before anything happened", metadata: ["reason": "\(error)"])
            tell(SessionFailure(error.exitCode, error.description))
            return .nothingHappened
        case .thaw:
            return undo(
                resolution,
                SessionFailure(error.codeAtSource, "the destination was lost before the grant: \(error)")
            )
        case .stayFrozen: return lost(because: error)
        case .none: return lostAfterwards(error)
        }
    }

    /// Behind the acknowledgement: a destination that ends the connection in order has got it, or has nothing to ask any more.
    private func lostAfterwards(_ error: ChannelError) -> Ending? {
        if case .closed = error { return .finished(nil) }
        if case .timedOut = error { return .finished(nil) }
        dropArrived()
        hangUp()
        resumption = nil
        return nil
    }

    /// Ends the command with this failure, with everything undone that can be.
    func undo(_ resolution: SourceCommit.Resolution, _ failure: SessionFailure) -> Ending? {
        var failure = failure
        switch resolution {
        case .leaveRunning, .none: break
        case .thaw:
            do throws(SessionFailure) {
                // A process whose freeze has failed was let go already.
                try frozen?.thaw()
                record?.remove()
                if failure.code != .refused { failure.message += "; \(process.name) runs on" }
            } catch {
                failure = error
            }
            frozen = nil
        case .stayFrozen: return lost(because: .aborted(code: UInt16(failure.code.rawValue), text: failure.message))
        }
        tell(failure)
        return .finished(failure)
    }

    /// Tells the destination why; it may be gone.
    private func tell(_ failure: SessionFailure) {
        let text = ([failure.message] + failure.details).joined(separator: "; ")
        try? loop.send(.abort(code: UInt16(failure.code.rawValue), text: text))
    }

    /// The copy may be running: keeps the process frozen and its pages at hand until the destination is back.
    func lost(because error: ChannelError) -> Ending? {
        hangUp()
        resumption = nil
        if lostUntil == nil {
            report(.lost)
            logger.error(
                "The destination was lost after the grant; the process stays frozen, for its copy may be running",
                metadata: ["reason": "\(error)"]
            )
        }
        // Coming back in vain prolongs nothing.
        let limit = lostUntil ?? options.hold.map { Deadline.after($0) } ?? .never
        lostUntil = limit
        deadline = limit
        return nil
    }

    /// Somebody has ended the process, frozen or not: there is nothing left to serve or to thaw.
    private func processEnded() -> Ending {
        let failure =
            isGranted
            ? SessionFailure(
                .interrupted,
                "\(process.name) was ended while its copy still needed pages of it; they are lost"
            )
            : SessionFailure(.notFound, "\(process.name) has ended")
        tell(failure)
        _ = session.stopThreads(within: .seconds(10))
        // Lets the tracer go of what is left; that the process is gone is known.
        try? frozen?.kill()
        frozen = nil
        return .finished(failure)
    }

    /// Ends without COMPLETE: the process stays stopped, said aloud.
    func endGranted(_ reason: String) -> Ending {
        _ = session.stopThreads(within: .seconds(10))
        let (drop, thaw) =
            record == nil
            ? ("kill -KILL \(options.pid)", "kill -CONT \(options.pid)")
            : ("thaw settle \(options.pid) --drop", "thaw settle \(options.pid) --thaw --force")
        var words =
            "\(reason); \(process.name) was granted and stays stopped, for its copy may be running. "
            + "To end it: \(drop). To let it run here, only if its restorer and the copy are gone: \(thaw)"
        do throws(SessionFailure) {
            try frozen?.leaveStopped()
        } catch {
            words += ". It could not be let go of in order: \(error)"
        }
        frozen = nil
        return .finished(SessionFailure(.interrupted, words))
    }
}

extension SourceConversation {
    /// Statistics with everything that is known at the end.
    func finalStatistics(result: String) -> SessionStatistics {
        var statistics = statistics
        statistics.result = result
        statistics.pages.total = session.ledger.existingCount ?? 0
        let served = session.ledger.tally.pages
        (statistics.pages.demanded, statistics.pages.zero, statistics.pages.preCopied) = session.ledger.counts
        statistics.pages.prefetched = served - min(served, statistics.pages.demanded + statistics.pages.preCopied)
        (statistics.bytesReceived, statistics.bytesSent) = session.bytes
        return statistics
    }
}

extension ChannelError {
    /// The exit code of a page server whose destination has gone.
    ///
    /// What the destination lacks (an id that is taken, a file) says nothing about the process, which can be offered again: 75.
    fileprivate var codeAtSource: ExitCode {
        switch self {
        case .aborted: exitCode == .peer ? .peer : .tryAgain
        case .closed, .cut, .timedOut, .stopped, .wire, .unexpected, .corrupted, .tls, .refused, .system: exitCode
        }
    }
}
