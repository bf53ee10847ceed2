// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LazyPages
internal import LinuxSystem
internal import Logging
internal import PageWire
internal import Paging
internal import Reporting
internal import Restore
internal import Synchronization
internal import Userfaultfd

// The copy runs. Nothing takes the page service away from it while pages are owed.
extension DestinationConversation {
    private static let progressInterval = Duration.milliseconds(200)

    /// Until every page is there and acknowledged; attached, until the process has ended as well.
    func drain() -> Outcome {
        report(.running(pid: statistics.pid))
        callbacks.onRunning(statistics.pid)
        watchProcess()
        do throws(ChannelError) {
            try loop.send(.running)
            FaultPoint.hit(.destinationRunningSent)
        } catch {
            broke(error)
        }
        return serveToTheEnd()
    }

    /// The same, of a process that runs already.
    func serveToTheEnd() -> Outcome {
        var progress = Deadline.after(Self.progressInterval)
        streamSeen.at = .now
        while !isOver {
            do throws(ChannelError) {
                try handle(try loop.next(until: nextDeadline(progress)))
            } catch {
                broke(error)
            }
            if reportsProgress && progress.hasPassed {
                reportProgress(isLast: false)
                progress = .after(Self.progressInterval)
            }
            if nextLook.hasPassed { lookAtWrites() }
            if farewell.hasPassed { waitedLongEnough() }
            if lossLimit.hasPassed { sourceStaysLost() }
            lookAtJournal()
            if nextPing.hasPassed { lookAtStream() }
            lookForSignOfLife()
        }
        return outcome()
    }

    /// Finds a stream that stands still, whatever else is heard of the source.
    private func lookAtStream() {
        let records = shared.streamRecords.load(ordering: .relaxed)
        guard records == streamSeen.records, !isLost, let memory else {
            streamSeen = (records, .now)
            return
        }
        guard streamSeen.at.elapsed > options.pageTimeouts.streamed else { return }
        streamSeen.at = .now
        guard memory.with(.stream, { $0.books.needsSource }) else { return }
        shared.lost(Loss(of: "bulk", ChannelError.timedOut), of: generation)
    }

    private func nextDeadline(_ progress: Deadline) -> Deadline {
        let ping = loop.channel == nil ? Deadline.never : nextPing
        return (reportsProgress ? progress : nextLook).earlier(farewell).earlier(lossLimit).earlier(ping)
    }

    private var reportsProgress: Bool { callbacks.onProgress != nil && !isFinished }

    private var isOver: Bool {
        if wasAskedToEnd { return true }
        if options.attached || watch != nil { return exitStatus != nil && (isFinished || sessionEnd != nil) }
        return isFinished || (sessionEnd != nil && exitStatus != nil)
    }

    func watchProcess() {
        do throws(SystemCallError) {
            if let watcher {
                try loop.watch(watcher.descriptor, token: Token.exit)
            } else if let process {
                try loop.watch(process.descriptor, token: Token.exit)
            }
            // Only its end: the fault thread reads its answers.
            if !guardian.isReleased { try loop.watchForEnd(of: guardian.descriptor, token: Token.guardian) }
            if let keeper { try loop.watch(keeper.process.descriptor, token: Token.keeper) }
        } catch {
            logger.error("The end of the process cannot be watched", metadata: ["reason": "\(error)"])
        }
    }

    private func handle(_ event: ControlLoop.Event) throws(ChannelError) {
        switch event {
        case .message(.acknowledged):
            switch commit.acknowledgementArrived() {
            case .finish:
                FaultPoint.hit(.destinationAcknowledged)
                finish(acknowledged: true)
            case .violation: throw .unexpected(.acknowledged)
            }
        case .message(let message): throw .unexpected(message.kind)
        case .signal(let signal): signalled(signal)
        case .ready(Token.connections): connectionsChanged()
        case .ready(Token.completed): try becameResident()
        case .ready(Token.lateGuards): try installGuards()
        case .ready(Token.exit): processChanged()
        case .ready(Token.guardian): guardianDied()
        case .ready(Token.keeper): keeperDied()
        case .ready, .timedOut: return
        }
    }

    private func broke(_ error: ChannelError) {
        guard !isFinished else { return }
        let resolution =
            switch error {
            case .wire, .unexpected, .refused: commit.violated()
            case .aborted: commit.abortArrived()
            case .closed, .cut, .timedOut, .stopped, .corrupted, .tls, .system: commit.connectionLost()
            }
        guard resolution != .reconnect || sessionEnd != nil else {
            controlLost(error)
            return waitForFarewell()
        }
        lost(Loss(ofControl: error).failure)
        if resolution == .runOnUnacknowledged { finish(acknowledged: false) }
    }

    private func connectionsChanged() {
        while let event = shared.events.take() {
            switch event {
            case .lost(let loss, let generation):
                // Once every page is there nobody needs the page connections; the source closes them when it has acknowledged.
                guard completed == nil, generation >= self.generation else { continue }
                if loss.isFinal { lost(loss.failure) } else { noteLoss(loss.failure) }
                waitForFarewell()
            case .refused(let failure):
                logger.debug("The source does not know the session", metadata: ["reason": "\(failure.message)"])
            case .gone: if farewell != .never { farewell = .immediate }
            case .resumed(let channel, let generation):
                guard !isFinished, sessionEnd == nil else {
                    shared.ended(channel)
                    continue
                }
                if resumed(over: channel, generation) { farewell = .never }
                waitForFarewell()
            }
        }
    }

    /// The source is lost for good.
    ///
    /// The process keeps running; what it needs and does not have, it waits for.
    private func lost(_ failure: SessionFailure) {
        guard !isFinished, giveUp(failure) else { return }
        if !isLost {
            report(.lost)
            lossBegan()
        }
        isLost = true
        logger.error(
            "The session does not go on; threads that need a page wait for it, everything else runs",
            metadata: ["reason": "\(failure.message)"]
        )
    }

    /// Leaves the session without COMPLETE, so that the source keeps its frozen process; returns whether that is new.
    private func giveUp(_ failure: SessionFailure) -> Bool {
        shared.stopReconnecting()
        if let control = loop.channel, sessionEnd == nil {
            // A page connection may go while this one lives: the source is told, so that it says so on its side.
            try? loop.send(.abort(code: UInt16(failure.code.rawValue), text: failure.message))
            try? loop.detach()
            shared.ended(control)
        }
        guard sessionEnd == nil else { return false }
        sessionEnd = failure
        return true
    }

    /// The process was killed because the source stays lost: it is not looked for any more.
    func giveUpForLoss() -> Bool {
        giveUp(SessionFailure(.interrupted, "the source was lost for too long, and the process was killed"))
    }

    /// With nothing left to do but to hear from the source, a source that is lost is not waited for for ever.
    private func waitForFarewell() {
        guard isLost, completed != nil || exitStatus != nil, farewell == .never else { return }
        farewell = .after(options.acknowledgementTimeout)
    }

    private func waitedLongEnough() {
        farewell = .never
        guard isLost, !isFinished else { return }
        _ = commit.gaveUpReconnecting()
        _ = giveUp(SessionFailure(.interrupted, "the source was lost and has not come back in time"))
        if completed != nil { finish(acknowledged: false) }
    }

    private func becameResident() throws(ChannelError) {
        guard let memory else { return }
        try? loop.unwatch(memory.completed.descriptor)
        guard !wasKilled else { return }
        // The thread that stops the process for them comes to its end first, and signals that.
        residentWaits = guardInstaller?.isWorking ?? false
        guard !residentWaits else { return }
        statistics.timeToResident = MonotonicTime.now - froze
        report(.resident)
        let tally = memory.with(.stream) { PageTally($0.digest) }
        statistics.pages.total = tally.pages
        completed = tally
        lossEnded()
        shared.pagesAreComplete()
        FaultPoint.hit(.destinationResident)
        // Once the source has accepted COMPLETE there is no other copy: the death of this program must not take this one along.
        releaseGuardian()
        FaultPoint.hit(.destinationGuardianReleased)
        switch commit.becameResident(tally) {
        case .sendComplete(let tally):
            guard sessionEnd == nil else { return finish(acknowledged: false) }
            guard loop.channel != nil else { return waitForFarewell() }
            try loop.send(.complete(tally))
            FaultPoint.hit(.destinationCompleteSent)
        case .withhold: throw .stopped
        }
    }

    /// Lets go of the memory: every page is there.
    private func finish(acknowledged: Bool) {
        guard !isFinished else { return }
        isFinished = true
        isAcknowledged = acknowledged
        reportProgress(isLast: true)
        shared.stopReconnecting()
        if let control = loop.channel {
            // The source waits for this to know that it was heard.
            try? loop.detach()
            shared.ended(control)
        }
        shared.stopThreads(within: .seconds(10))
        collectStatistics()
        if options.tracked { watchWrites() }
        endKeeping()
        // Nobody takes over any more, and this program may stay as long as the process.
        staged = nil
        memory?.close()
        releaseGuardian()
        // The tracker watches pages of the usual size.
        if exitStatus == nil, !options.tracked, let process {
            hugePages = HugePages(of: process, pid: statistics.pid, logger: logger)
        }
        if acknowledged, let completed {
            report(.complete(pages: completed.pages, digest: completed.digest))
        } else {
            logger.error(
                "Every page is here, but the source has not acknowledged: its process may still be frozen there"
            )
        }
        lookAtWrites()
    }

    private func releaseGuardian() {
        try? loop.unwatch(guardian.descriptor)
        do throws(SystemCallError) {
            try guardian.release()
        } catch {
            logger.warning("The guardian did not end in order", metadata: ["reason": "\(error)"])
        }
    }

    /// Guard pages that were heard of too late for the grant.
    private func installGuards() throws(ChannelError) {
        guard let memory else { return }
        memory.lateGuards.drain()
        if residentWaits { return try becameResident() }
        guard memory.with(.fault, { $0.owesGuards }) else { return }
        let installer =
            guardInstaller ?? GuardInstaller(memory: memory, pid: statistics.pid, journal: journal, logger: logger)
        guardInstaller = installer
        do throws(SystemCallError) {
            try installer.start(shared)
        } catch {
            logger.error("Guard pages cannot be installed; who touches one waits", metadata: ["reason": "\(error)"])
        }
    }
}

// MARK: - The process and its signals

extension DestinationConversation {
    private func processChanged() {
        // A process that was taken over is nobody's child here: how it ended is not known.
        guard let watcher else { return endedUnseen() }
        do throws(SystemCallError) {
            guard let ended = try watcher.status() else { return }
            exited(ended.shellStatus)
        } catch {
            exited(128 + Signal.kill.rawValue)
        }
    }

    private func endedUnseen() {
        guard exitStatus == nil, let process else { return }
        exitStatus = 0
        try? loop.unwatch(process.descriptor)
        logger.notice("The process has ended")
        waitForFarewell()
    }

    private func exited(_ shellStatus: Int32) {
        guard exitStatus == nil else { return }
        exitStatus = shellStatus
        if let watcher { try? loop.unwatch(watcher.descriptor) }
        report(.exited(status: shellStatus))
        waitForFarewell()
    }

    /// Attached, signals are the process's.
    ///
    /// What ends this program is the second SIGTERM or SIGINT when the source is lost, or, of a
    /// daemon, the first one then and the second one before; the process ends with it, since it would wait for ever.
    private func signalled(_ signal: Signal) {
        let asksToEnd = signal == .terminate || signal == .interrupt
        if isFinished && asksToEnd { lookAtWrites() }
        if asksToEnd && !isFinished { stopSignals += 1 }
        let killsAt = options.attached || !isLost ? 2 : 1
        if asksToEnd && !isFinished && stopSignals >= killsAt && (isLost || !options.attached) {
            return stopServing(because: signal)
        }
        guard options.attached else {
            guard !isFinished else {
                wasAskedToEnd = asksToEnd
                return
            }
            logger.warning(
                "Pages are still owed to the process; this program ends when they are there",
                metadata: ["signal": "\(signal)", "remedy": "send it again to kill the process and end at once"]
            )
            return
        }
        _ = try? process?.send(signal)
    }

    /// The operator does not want to wait any longer.
    ///
    /// With pages owed the process is killed, and the source is left before they come: it would end its process for a COMPLETE.
    private func stopServing(because signal: Signal) {
        _ = giveUp(SessionFailure(.interrupted, "ended by \(signal)"))
        guard completed == nil else {
            wasAskedToEnd = true
            return finish(acknowledged: false)
        }
        logger.error(
            "The process is killed: pages are owed to it that nobody will bring",
            metadata: ["signal": "\(signal)"]
        )
        wasKilled = true
        _ = try? process?.send(.kill)
    }

    private func outcome() -> Outcome {
        watch?.end()
        hugePages?.finish(atOnce: exitStatus != nil || wasAskedToEnd)
        if !isFinished {
            reportProgress(isLast: true)
            shared.stopThreads(within: .seconds(10))
            collectStatistics()
            endKeeping()
            memory?.close()
            releaseGuardian()
        }
        (statistics.bytesReceived, statistics.bytesSent) = shared.bytes
        statistics.result = isAcknowledged ? "complete" : "interrupted"
        if options.attached && !wasKilled { return Outcome(exitStatus: exitStatus ?? 0) }
        guard let failure = sessionEnd else { return Outcome() }
        let rest =
            completed == nil
            ? "the source process was granted and stays frozen until somebody ends it"
            : "every page is here, but the source has not acknowledged: its process may still be frozen there"
        let told = SessionFailure(.interrupted, "\(failure.message); \(rest)")
        report(.failed(code: told.code.rawValue, message: told.message))
        return Outcome(told)
    }
}

// MARK: - Figures

extension DestinationConversation {
    private func reportProgress(isLast: Bool) {
        guard let report = callbacks.onProgress, let memory else { return }
        var progress = RestoreProgress()
        (progress.residentPages, progress.totalPages, progress.faults) = memory.with(.stream) { state in
            (
                state.books.arrivedPages, state.books.isMapComplete ? state.books.mappedPages : 0,
                state.stalls.latency.count
            )
        }
        progress.bytesReceived = shared.bytesReceived.load(ordering: .relaxed)
        progress.elapsed = ran.elapsed
        progress.isLast = isLast
        report(progress)
    }

    private func collectStatistics() {
        guard let memory else { return }
        let figures = memory.with(.fault) { state in
            (
                total: state.books.mappedPages, arrived: state.books.arrivedPages, zero: state.zeroPages,
                stale: state.stalePages, demanded: state.books.counters.demanded, stalls: state.stalls,
                preCopied: state.preCopiedPages
            )
        }
        statistics.pages.total = figures.total
        statistics.pages.zero = figures.zero
        statistics.pages.stale = figures.stale
        statistics.pages.preCopied = figures.preCopied
        let asked = figures.arrived - min(figures.arrived, figures.preCopied)
        statistics.pages.demanded = min(figures.demanded, asked)
        statistics.pages.prefetched = asked - statistics.pages.demanded
        statistics.latency = figures.stalls.latency
        statistics.stallTotal = .nanoseconds(Int64(clamping: figures.stalls.total))
        statistics.stallUnion = .nanoseconds(Int64(clamping: figures.stalls.union))
    }
}
