// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LazyPages
internal import LinuxSystem
internal import Logging
internal import PageWire
internal import Paging
internal import Reporting

/// Takes the session up again over new connections whenever the present ones break, on a thread of its own.
///
/// The source must not be asked for more than it takes: between two attempts there is a pause that grows, and no two destinations that
/// have lost the same source come back at the same moment.
struct Reconnection {
    /// The pause before the second attempt; the first one comes after a random part of it.
    static let firstPause = Duration.milliseconds(100)
    /// The longest pause.
    static let longestPause = Duration.seconds(5)
    /// How long nobody may listen before the page server counts as ended.
    static let goneTime = Duration.seconds(5)

    private let options: RestoreOptions
    private let session: SessionIdentifier
    private let pid: Int32
    private let memory: LazyMemory
    private let shared: RestoreShared
    private let logger: Logger

    init(
        _ options: RestoreOptions,
        session: SessionIdentifier,
        pid: Int32,
        memory: LazyMemory,
        shared: RestoreShared,
        logger: Logger
    ) {
        self.options = options
        self.session = session
        self.pid = pid
        self.memory = memory
        self.shared = shared
        self.logger = logger
    }

    /// Reconnects until the restore stops.
    func run() {
        do throws(SystemCallError) {
            while try waitForBreak() { try reconnect() }
        } catch {
            logger.error("The source is not looked for any more", metadata: ["reason": "\(error)"])
        }
    }

    private func waitForBreak() throws(SystemCallError) -> Bool {
        try DescriptorIO.wait(for: .readable, on: shared.broken.descriptor, interruptedBy: shared.stop, until: .never)
            == .ready
    }

    private func reconnect() throws(SystemCallError) {
        let patience = Deadline.after(options.answerTimeout)
        var gone = Deadline.never
        var attempt = 0
        FaultPoint.hit(.destinationReconnecting)
        while try !shared.stop.wait(until: .after(Self.pause(before: attempt))) {
            attempt += 1
            var nobodyListens = false
            do {
                // Certificates may have been renewed meanwhile.
                let link = try PageServerLink(options, stop: shared.stop)
                defer { nobodyListens = link.nobodyListens }
                return try resume(link)
            } catch let refusal as Refusal {
                shared.events.put(.refused(refusal.failure))
            } catch {
                logger.debug("The source could not be reached again", metadata: ["reason": "\(error)"])
            }
            gone = nobodyListens ? gone.earlier(.after(Self.goneTime)) : .never
            if patience.hasPassed || gone.hasPassed {
                shared.giveUpRelease()
                shared.events.put(.gone(SessionFailure(.tryAgain, "the page server was lost before the grant")))
            }
            // The restore may have ended the search meanwhile.
            if try !shared.broken.wait(until: .immediate) { return }
        }
    }

    /// A pause between half and all of what is due, so that those who were cut off together do not come back together.
    static func pause(before attempt: Int) -> Duration {
        let full = min(longestPause, firstPause * (1 << min(attempt, 10)))
        let random = (try? RandomBytes.make(2)).map { UInt32($0[0]) << 8 | UInt32($0[1]) } ?? 0
        return attempt == 0 ? full * Int(random) / 65536 : full / 2 + full * Int(random) / 131_072
    }

    /// The source knows no such session: another page server, or one that has undone it.
    private struct Refusal: Error {
        let failure: SessionFailure
    }
}

// MARK: - One attempt

extension Reconnection {
    private func resume(_ link: PageServerLink) throws {
        let control = try openControl(link)
        guard shared.streams.waitUntilZero(until: .after(options.connectTimeout)) else {
            throw SessionFailure(.systemCall, "the stream of the former connection has not ended")
        }
        try sayWhatIsMissing(on: control)
        guard shared.needsPages else {
            guard let generation = shared.reconnected() else { return }
            return shared.events.put(.resumed(control, generation: generation))
        }
        let stop = try shared.renewConnectionStop()
        let (fault, _) = try link.open(.fault, session: session)
        let streams = try link.openStreams(session, interruptedBy: stop, shared.affinity)
        if try shared.stop.wait(until: .immediate) { stop.signal() }
        guard let generation = shared.reconnected() else { return }
        shared.faultChannels.put(RestoreShared.FaultChannel(channel: fault, generation: generation))
        for stream in streams {
            try BulkThread(memory: memory, shared: shared, generation: generation).start(stream, for: pid)
        }
        shared.events.put(.resumed(control, generation: generation))
    }

    private func openControl(_ link: PageServerLink) throws -> FrameChannel {
        do throws(SessionFailure) {
            return try link.open(.control, session: session).channel
        } catch {
            guard error.code == .peer else { throw error }
            throw Refusal(failure: error)
        }
    }

    private func sayWhatIsMissing(on control: FrameChannel) throws(ChannelError) {
        let deadline = Deadline.after(options.answerTimeout)
        let holdings = memory.with(.stream) { $0.holdings() }
        var runs: [PageRun] = []
        var position: UInt64 = 0
        while let run = holdings.pages.nextRun(from: position) {
            position = run.upperBound
            if runs.count == PageProtocol.maximumMapRuns {
                try control.send(.resume(runs: runs, options: holdings.options), until: deadline)
                runs.removeAll(keepingCapacity: true)
            }
            runs.append(PageRun(pageNumbers: run))
        }
        try control.send(.resume(runs: runs, options: holdings.options.union(.last)), until: deadline)
        FaultPoint.hit(.destinationResumeAsked)
        switch try control.receive(until: deadline) {
        case .message(.resumed): return
        case .message(.abort(let code, let text)): throw .aborted(code: code, text: text)
        case .message(let message): throw .unexpected(message.kind)
        case .pages(let frame): throw .unexpected(frame.kind)
        case .nothing: throw .timedOut
        }
    }
}

/// What has come over connections that broke.
struct Holdings: Sendable {
    /// Pages of the page map that are missing, or, without ``ResumeOptions/hasMap``, pages that are there.
    var pages: PageSet
    var options: ResumeOptions
}

extension MemoryState {
    /// What the source is to be told; a page map that has come in part is forgotten.
    mutating func holdings() -> Holdings {
        guard let missing = books.missingPages(withoutLocal: hasPreCopyMap) else {
            journal?.note(.pageMapForgotten)
            return Holdings(pages: books.forgetPartialMap(), options: hasPreCopyMap ? .hasPreCopyMap : [])
        }
        return Holdings(pages: missing, options: hasPreCopyMap ? [.hasMap, .hasPreCopyMap] : .hasMap)
    }
}
