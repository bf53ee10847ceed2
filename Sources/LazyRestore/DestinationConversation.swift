// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LazyPages
internal import LinuxSystem
internal import Logging
internal import PageWire
internal import Paging
internal import ProcessImage
internal import Reporting
internal import Restore
internal import TLSSession
internal import Userfaultfd

/// One restore over one session, on the tracer thread: does what ``DestinationCommit`` decides.
///
/// Whether the copy may run and what becomes of it when something breaks is decided nowhere else than in that machine.
final class DestinationConversation {
    enum Token {
        static let connections: UInt64 = 1
        static let completed: UInt64 = 2
        static let exit: UInt64 = 3
        static let guardian: UInt64 = 4
        static let preCopy: UInt64 = 5
        static let lateGuards: UInt64 = 6
        static let keeper: UInt64 = 7
    }

    let options: RestoreOptions
    let callbacks: RestoreCallbacks
    let loop: ControlLoop
    let guardian: Guardian
    /// Where it is noted what somebody who takes over has to know; nil when nobody would.
    let journal: EventJournal?
    /// Starts that one.
    var keeper: Keeper?
    let shared: RestoreShared
    let status: StatusSink
    let logger: Logger

    var commit = DestinationCommit()
    var partial: PartialProcess?
    var process: ProcessDescriptor?
    var memory: LazyMemory?
    /// What was pre-copied, with its descriptor for whoever takes over; its memory is given back when all of it has been taken.
    var staged: PageStore?
    /// The secret of the session.
    var session = SessionIdentifier.none
    var watcher: ExitWatcher?
    var statistics = SessionStatistics()

    /// When the description was asked for, then when the source froze its process, on the clock of this machine.
    var froze = MonotonicTime.now
    var ran = MonotonicTime.now
    /// Which connections of the session are in use.
    var generation: UInt64 = 1
    /// The connections have been lost and have not come back.
    var isLost = false
    /// The session does not go on, and why.
    var sessionEnd: SessionFailure?
    /// How long the source is waited for when all that is left is its acknowledgement.
    var farewell = Deadline.never
    /// BUILT was sent, and what the source made of it is not known.
    var isGrantUnknown = false
    /// When the source is to show that it lives.
    var nextPing = Deadline.immediate
    /// What the stream had brought when it was looked at last, and when that was new.
    var streamSeen = (records: UInt64(0), at: MonotonicTime.now)
    /// When the policy on a lost source takes effect, and whether it has stopped the process.
    var lossLimit = Deadline.never
    var isStoppedForLoss = false
    var isFinished = false
    var isAcknowledged = false
    var exitStatus: Int32?
    var stopSignals = 0
    var wasKilled = false
    var completed: PageTally?
    /// Puts memory into huge pages, once every page is there.
    var hugePages: HugePages?
    /// It has been said that nobody takes over any more.
    var saidJournalIsFull = false
    /// Tells what is written, once every page is there.
    var watch: WriteWatch?
    var nextLook = Deadline.never
    var wasAskedToEnd = false
    /// Every page is there, but guards are still being installed.
    var residentWaits = false
    /// Guard pages that the grant does not name and that were heard of before the process runs.
    var earlyGuards: [AddressRange] = []
    /// Installs those that were heard of later.
    var guardInstaller: GuardInstaller?

    init(
        options: RestoreOptions,
        callbacks: RestoreCallbacks,
        loop: ControlLoop,
        guardian: Guardian,
        journal: EventJournal? = nil,
        keeper: Keeper? = nil,
        shared: RestoreShared,
        status: StatusSink,
        logger: Logger
    ) {
        self.options = options
        self.callbacks = callbacks
        self.loop = loop
        self.guardian = guardian
        self.journal = journal
        self.keeper = keeper
        self.shared = shared
        self.status = status
        self.logger = logger
    }

    /// Tells scripts and the operator.
    func report(_ event: StatusEvent) {
        status.report(event)
        logger.report(event)
    }

    /// Runs to the end.
    func run() -> Outcome {
        let guards: [PageRun]
        do throws(SessionFailure) {
            guards = try build()
        } catch {
            return undone(error)
        }
        switch commit.grantArrived() {
        case .violation: return undone(SessionFailure(.peer, "the page server granted at the wrong time"))
        case .release: break
        }
        FaultPoint.hit(.destinationGrantArrived)
        do throws(SessionFailure) {
            try release(guards)
        } catch {
            return undone(error)
        }
        return drain()
    }
}

// MARK: - Before the grant

extension DestinationConversation {
    /// Everything up to the grant; whatever fails, nothing has run.
    private func build() throws(SessionFailure) -> [PageRun] {
        if options.tracked { try Self.requireTracking() }
        let link = try PageServerLink(options, stop: shared.stop)
        let (control, session) = try link.open(.control)
        placeThreads(of: session)
        try attach(control)
        FaultPoint.hit(.destinationGreeted)
        let (fault, _) = try link.open(.fault, session: session)
        // It ends with the others, whatever is heard of it: until then no other can take its place.
        let streams = try link.openStreams(session, interruptedBy: shared.connectionStop, shared.affinity)
        FaultPoint.hit(.destinationConnected)
        staged = options.preCopyRounds > 0 ? try preCopy(streams[0]) : nil
        froze = MonotonicTime.now
        try send(.describe(describeOptions))
        let description = try receiveDescription()
        FaultPoint.hit(.destinationDescribed)
        let partial = try begin(description)
        FaultPoint.hit(.destinationBegun)
        let eager = try receiveEagerPages(partial)
        try told { () throws(RestoreError) in try partial.register() }
        try serveMemory(
            partial,
            Self.segments(of: partial.lazyRanges, in: description.memory.mappings, without: eager),
            fault,
            streams
        )
        if options.eager { try waitForEverything() }
        try told { () throws(RestoreError) in try partial.finish() }
        if options.tracked { try startClean(partial) }
        FaultPoint.hit(.destinationBuilt)
        self.session = session
        try prepareToReconnect()
        guard case .sendBuilt = commit.built() else {
            throw SessionFailure(.bug, "the copy was built at the wrong time")
        }
        return try askForGrant()
    }

    private var describeOptions: DescribeOptions {
        var wishes: DescribeOptions = options.eager ? .eager : []
        // Lazy shared memory has a userfaultfd of its own, and the tracker's is the other one.
        if options.tracked { wishes.insert(.sharedMemoryAhead) }
        return wishes
    }

    private func attach(_ control: FrameChannel) throws(SessionFailure) {
        statistics.tlsVersion = control.connection.version
        statistics.tlsCipher = control.connection.cipher
        do throws(SystemCallError) {
            try loop.attach(control)
            try loop.watch(shared.events.descriptor, token: Token.connections)
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
        let peer = control.connection.peer?.description ?? "?"
        report(.connected(peer: peer))
    }

    private func begin(_ description: ProcessDescription) throws(SessionFailure) -> PartialProcess {
        var build = BuildOptions()
        build.newPIDNamespace = options.newPIDNamespace
        build.tracked = options.tracked
        let partial = try told { () throws(RestoreError) in try ProcessBuilder.begin(description, options: build) }
        self.partial = partial
        process = partial.process
        shared.copyIsBuilt(partial.process)
        statistics.pid = partial.pid
        return partial
    }

    func send(_ message: Message) throws(SessionFailure) {
        do throws(ChannelError) {
            try loop.send(message)
        } catch {
            throw SessionFailure(lostBeforeGrant: error)
        }
    }

    /// The next message; anything else that happens ends the restore.
    private func receive(until deadline: Deadline) throws(SessionFailure) -> Message {
        while true {
            let event: ControlLoop.Event
            do throws(ChannelError) {
                event = try loop.next(until: deadline)
            } catch {
                throw SessionFailure(lostBeforeGrant: error)
            }
            switch event {
            case .message(let message): return message
            case .signal(let signal): try endIfAsked(by: signal)
            case .timedOut: throw SessionFailure(lostBeforeGrant: .timedOut)
            case .ready(Token.lateGuards): try takeGuards()
            case .ready: if let loss = shared.nextLoss() { throw cause(of: loss.failure) }
            }
        }
    }

    /// What to end with when a page connection is lost before the grant: a source that gives up says why on the control connection,
    /// where it may arrive behind the end of the others.
    func cause(of loss: SessionFailure) -> SessionFailure {
        guard let control = loop.channel else { return loss }
        let deadline = Deadline.after(.seconds(2))
        while true {
            do throws(ChannelError) {
                guard case .message(.abort(let code, let text)) = try control.receive(until: deadline) else { continue }
                return SessionFailure(lostBeforeGrant: .aborted(code: code, text: text))
            } catch {
                return loss
            }
        }
    }

    func endIfAsked(by signal: Signal) throws(SessionFailure) {
        switch signal {
        case .interrupt, .terminate, .hangup, .quit:
            throw SessionFailure(.tryAgain, "ended by \(signal) before the grant")
        default: return
        }
    }

    private func receiveDescription() throws(SessionFailure) -> ProcessDescription {
        let deadline = Deadline.after(options.answerTimeout)
        var bytes: [UInt8] = []
        var began: MonotonicTime?
        while true {
            guard case .description(let total, let offset, let chunk) = try receive(until: deadline),
                offset == UInt64(bytes.count)
            else { throw SessionFailure(.peer, "the page server broke the page protocol: no piece of the description") }
            let first = began ?? MonotonicTime.now
            began = first
            // Grows with what came, never with what was announced.
            bytes += chunk
            guard UInt64(bytes.count) >= total else { continue }
            do throws(ProcessImageError) {
                let description = try ArchiveDecoder.decode(ProcessDescription.self, from: bytes)
                // What the source did before the freeze is no pause. It cannot have frozen its process before it was asked to.
                let frozenFor = min(description.machine.describingTime, first.nanoseconds - froze.nanoseconds)
                froze = MonotonicTime(nanoseconds: first.nanoseconds - frozenFor)
                return description
            } catch {
                throw SessionFailure(.badInput, error.description)
            }
        }
    }

    /// Writes what is sent ahead where it belongs; returns the pages of the process among it.
    private func receiveEagerPages(_ partial: PartialProcess) throws(SessionFailure) -> PageSet {
        var eager = PageSet()
        var digest = PageDigest()
        while true {
            switch try receive(until: .after(options.answerTimeout)) {
            case .eagerPages(let encoded):
                let pages: EagerPages
                do throws(ProcessImageError) {
                    pages = try ArchiveDecoder.decode(EagerPages.self, from: encoded)
                } catch {
                    throw SessionFailure(.badInput, error.description)
                }
                digest.add(pages)
                if pages.target == .process, !pages.bytes.isEmpty {
                    let (end, overflow) = pages.address.addingReportingOverflow(UInt64(pages.bytes.count))
                    guard !overflow else { throw SessionFailure(.badInput, "eager pages leave the address space") }
                    eager.insert(pages.address >> 12..<(end + PageSize.base - 1) >> 12)
                }
                try told { () throws(RestoreError) in try partial.write(pages) }
            case .handedOver(let tally):
                guard tally == PageTally(digest) else {
                    throw SessionFailure(.peer, "the page server sent \(tally) ahead, but \(PageTally(digest)) arrived")
                }
                statistics.pages.eager = digest.count
                return eager
            case let message: throw SessionFailure(lostBeforeGrant: .unexpected(message.kind))
            }
        }
    }

    /// The lazy mappings without the pages that are there already; takes time in the number of mappings, which may be 100,000.
    static func segments(
        of lazyRanges: [AddressRange],
        in mappings: [MappingDescription],
        without eager: PageSet
    ) -> [Segment] {
        var segments: [Segment] = []
        var index = 0
        for range in lazyRanges {
            while index < mappings.count, mappings[index].end <= range.lowerBound.rawValue { index += 1 }
            var next = index
            while next < mappings.count, let part = mappings[next].range.intersection(range) {
                let isInherited = !mappings[next].has("dc") && !mappings[next].has("wf")
                append(part.pageNumbers, without: eager, isInherited, to: &segments)
                next += 1
            }
        }
        return segments
    }

    private static func append(
        _ pages: Range<UInt64>,
        without eager: PageSet,
        _ isInherited: Bool,
        to segments: inout [Segment]
    ) {
        var page = pages.lowerBound
        while page < pages.upperBound {
            let there = eager.nextRun(in: page..<pages.upperBound) ?? pages.upperBound..<pages.upperBound
            if page < there.lowerBound {
                segments.append(Segment(AddressRange(pageNumbers: page..<there.lowerBound), isInherited: isInherited))
            }
            page = there.upperBound
        }
    }

    /// From now on faults are answered.
    private func serveMemory(
        _ partial: PartialProcess,
        _ segments: [Segment],
        _ fault: sending FrameChannel,
        _ streams: [Handover<FrameChannel>]
    ) throws(SessionFailure) {
        do throws(SystemCallError) {
            try partial.uffd.setNonBlocking()
            try guardian.hold(userfaultfd: partial.uffd.descriptor)
            try guardian.doom(pidfd: partial.process.descriptor, pid: partial.pid)
            let state = MemoryState(
                segments: segments,
                uffd: try partial.uffd.duplicate(),
                pid: partial.pid,
                objects: try lazyObjects(of: partial),
                staged: staged,
                journal: journal.map { RestoreJournal(events: $0) }
            )
            try serveFaults(of: state, over: fault)
            guard let memory else { return }
            for stream in streams { try BulkThread(memory: memory, shared: shared).start(stream, for: partial.pid) }
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
    }

    private func lazyObjects(of partial: PartialProcess) throws(SystemCallError) -> LazyObjects? {
        guard let uffd = try partial.objectUffd?.duplicate() else { return nil }
        try uffd.setNonBlocking()
        try guardian.hold(userfaultfd: uffd.descriptor)
        return try LazyObjects(partial.lazyObjects, uffd: uffd)
    }

    /// Starts the thread that answers faults.
    ///
    /// - Parameter fault: its connection; nil when there is none yet.
    func serveFaults(
        of state: consuming sending MemoryState,
        over fault: sending FrameChannel?
    ) throws(SystemCallError) {
        let userfaultfds = state.userfaultfds
        let memory = try LazyMemory(state, stop: shared.stop)
        self.memory = memory
        try loop.watch(memory.lateGuards.descriptor, token: Token.lateGuards)
        let thread = try FaultThread(
            memory: memory,
            shared: shared,
            guardian: guardian,
            channel: fault,
            spin: spin,
            patience: options.pageTimeouts.asked,
            logger: logger
        )
        for (space, descriptor) in userfaultfds { try thread.watch(descriptor, number: space.number) }
        let handover = try Handover<FaultThread>()
        handover.put(thread)
        try shared.start("uffd-\(statistics.pid)", urgency: .urgent) { handover.take()?.run() }
    }

    /// Before any thread is started that serves pages.
    func placeThreads(of session: SessionIdentifier) {
        shared.placing.withLock { $0 = (session.bytes[0], spin) }
    }

    private var spin: Duration { Spin.time(asked: options.spin, cpus: shared.affinity?.cpus.count ?? 1) }

    /// `--eager`: nothing runs before every page is there.
    private func waitForEverything() throws(SessionFailure) {
        try watchForCompletion()
        defer { if let memory { try? loop.unwatch(memory.completed.descriptor) } }
        while true {
            let event: ControlLoop.Event
            do throws(ChannelError) {
                event = try loop.next(until: .never)
            } catch {
                throw SessionFailure(lostBeforeGrant: error)
            }
            switch event {
            case .ready(Token.completed): return
            case .ready(Token.lateGuards): try takeGuards()
            case .ready: if let loss = shared.nextLoss() { throw cause(of: loss.failure) }
            case .signal(let signal): try endIfAsked(by: signal)
            case .message(let message): throw SessionFailure(lostBeforeGrant: .unexpected(message.kind))
            case .timedOut: continue
            }
        }
    }

    /// Only where it is taken: it stays readable, and every page may be there before the grant is.
    func watchForCompletion() throws(SessionFailure) {
        do throws(SystemCallError) {
            if let memory { try loop.watch(memory.completed.descriptor, token: Token.completed) }
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
    }

    /// Guards that are heard of now are installed before the process runs.
    func takeGuards() throws(SessionFailure) {
        guard let memory else { return }
        memory.lateGuards.drain()
        do throws(SystemCallError) {
            earlyGuards += try memory.settleGuards { $0.takeGuards() }
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
    }

    private func release(_ guards: [PageRun]) throws(SessionFailure) {
        guard let partial else { preconditionFailure("DestinationConversation: nothing was built") }
        try watchForCompletion()
        try takeGuards()
        let ranges = guards.map(\.range) + earlyGuards
        watcher = try told { () throws(RestoreError) in try partial.release(guards: ranges) }
        FaultPoint.hit(.destinationReleased)
        // It holds a userfaultfd of its own, which must not outlive the service: once nobody reads its events, unmapping hangs.
        self.partial = nil
        guard shared.copyRuns() else { throw killedWhileReleased() }
        mayBeTakenOver()
        ran = MonotonicTime.now
        statistics.pause = ran - froze
        guard case .sendRunning = commit.released() else {
            preconditionFailure("DestinationConversation: released twice")
        }
    }

    /// A page connection was lost in the moment in which the threads were let go, and the process killed for it.
    ///
    /// Waits for its end: until then the userfaultfd must not be closed. With every page there the session could go on to a COMPLETE,
    /// for which the source would end its process as well.
    private func killedWhileReleased() -> SessionFailure {
        if let process {
            _ = try? DescriptorIO.wait(for: .readable, on: process.descriptor, until: .after(.seconds(10)))
        }
        // A child of this program is taken by asking.
        _ = try? watcher?.status()
        return shared.nextLoss()?.failure ?? SessionFailure(.tryAgain, "a page connection was lost")
    }

    /// Nothing of the copy has run, or it was destroyed: says so everywhere.
    private func undone(_ failure: SessionFailure) -> Outcome {
        var failure = failure
        let wasGranted = commit.state == .releasing
        // Whatever the machine was told before, it says destroy until a thread runs, and destroying twice does nothing.
        _ = commit.failed()
        shared.stopReconnecting()
        partial?.destroy()
        try? loop.send(.abort(code: UInt16(failure.code.rawValue), text: failure.message))
        shared.stopThreads(within: .seconds(10))
        endKeeping()
        memory?.close()
        try? guardian.release()
        if let control = loop.channel { shared.ended(control) }
        statistics.result = failure.code == .refused ? "refused" : "undone"
        if wasGranted {
            failure.message += "; the copy was destroyed, but it had been granted: the source process stays frozen"
            failure.code = .interrupted
            statistics.result = "interrupted"
        } else if isGrantUnknown {
            failure.message +=
                "; the copy was destroyed. Whether the source process was granted is not known: look there"
            failure.code = .interrupted
            statistics.result = "interrupted"
        }
        report(.failed(code: failure.code.rawValue, message: failure.message))
        return Outcome(failure)
    }
}

/// Runs a call of Restore and tells its failure in the words of a session.
private func told<Result>(_ body: () throws(RestoreError) -> Result) throws(SessionFailure) -> Result {
    do throws(RestoreError) {
        return try body()
    } catch {
        throw SessionFailure(ExitCode(rawValue: error.code.rawValue) ?? .bug, error.description)
    }
}

extension SessionFailure {
    /// A control connection that does not go on before the grant.
    init(lostBeforeGrant error: ChannelError) {
        self.init(error.exitCode, "the page server was lost before the grant: \(error)")
    }
}
