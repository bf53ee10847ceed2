// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import Logging
internal import PageWire
internal import Paging
internal import Reporting

// From BUILT on lost connections are made anew: the copy stays what it is meanwhile.
extension DestinationConversation {
    func prepareToReconnect() throws(SessionFailure) {
        guard shared.copyIsComplete() else {
            throw cause(of: shared.nextLoss()?.failure ?? SessionFailure(.tryAgain, "a page connection was lost"))
        }
        try startReconnecting()
    }

    /// Starts the thread that looks for a source that is lost.
    func startReconnecting() throws(SessionFailure) {
        guard let memory else { preconditionFailure("DestinationConversation: nothing was built") }
        let reconnection = Reconnection(
            options,
            session: session,
            pid: statistics.pid,
            memory: memory,
            shared: shared,
            logger: logger
        )
        do throws(SystemCallError) {
            try shared.start("reconnect-\(statistics.pid)") { reconnection.run() }
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
    }

    // MARK: - Before the threads run

    /// Asks until the answer is known, or for too long.
    func askForGrant() throws(SessionFailure) -> [PageRun] {
        isGrantUnknown = true
        var deadline = Deadline.after(options.answerTimeout)
        do throws(ChannelError) {
            try loop.send(.built)
            FaultPoint.hit(.destinationBuiltSent)
        } catch {
            try lostBeforeGrant(error)
        }
        while true {
            let event: ControlLoop.Event
            do throws(ChannelError) {
                event = try loop.next(until: deadline.earlier(nextPing))
            } catch {
                try lostBeforeGrant(error)
                continue
            }
            lookForSignOfLife()
            switch event {
            case .message(.grant(let guards)):
                isGrantUnknown = false
                return guards
            case .message(let message): throw SessionFailure(lostBeforeGrant: .unexpected(message.kind))
            case .signal(let signal): try endIfAsked(by: signal)
            case .timedOut where !deadline.hasPassed: continue
            case .timedOut: throw SessionFailure(lostBeforeGrant: .timedOut)
            case .ready(Token.lateGuards): try takeGuards()
            case .ready(Token.connections): if try connectionsChanged() { deadline = .after(options.answerTimeout) }
            case .ready: continue
            }
        }
    }

    /// The control connection has gone; whether the grant was on it is not known.
    private func lostBeforeGrant(_ error: ChannelError) throws(SessionFailure) {
        guard !error.endsTheSession, case .reconnect = commit.connectionLost() else {
            // A source that gives up has not granted, or does not any more.
            if case .aborted = error { isGrantUnknown = false }
            throw SessionFailure(lostBeforeGrant: error)
        }
        controlLost(error)
    }

    /// - Returns: whether the session goes on over new connections.
    private func connectionsChanged() throws(SessionFailure) -> Bool {
        var isResumed = false
        while let event = shared.events.take() {
            switch event {
            case .lost(let loss, let generation):
                guard !loss.isFinal else { throw cause(of: loss.failure) }
                if generation >= self.generation { noteLoss(loss.failure) }
            case .refused(let failure):
                // It has been undone: nothing of it is left there.
                isGrantUnknown = false
                throw SessionFailure(.tryAgain, failure.message)
            case .gone(let failure): throw failure
            case .resumed(let channel, let generation):
                isResumed = resumed(over: channel, generation)
            }
        }
        return isResumed
    }

    // MARK: - At any time

    /// How often a source that says nothing is asked for a sign of life.
    static let pingInterval = Duration.seconds(3)
    /// How long it may owe that sign; a source that judges a COMPLETE may have much to read before.
    private static let patience = (usual: Duration.seconds(12), completing: Duration.seconds(60))

    /// Finds a connection of which only this end is left: no end of file will ever come.
    func lookForSignOfLife() {
        guard loop.channel != nil, nextPing.hasPassed else { return }
        nextPing = .after(Self.pingInterval)
        let silence = MonotonicTime.now - loop.lastHeard
        guard silence <= (completed == nil ? Self.patience.usual : Self.patience.completing) else {
            return controlLost(.timedOut)
        }
        // When it cannot be sent, the end of the connection is seen by reading.
        if silence >= Self.pingInterval { try? loop.send(.ping) }
    }

    /// The control connection does not go on, and another one may.
    func controlLost(_ error: ChannelError) {
        if let control = loop.channel {
            try? loop.detach()
            shared.ended(control)
        }
        let loss = Loss(ofControl: error)
        shared.lost(loss, of: generation, isControl: true)
        noteLoss(loss.failure)
    }

    /// Says once that the source is lost, however many connections end.
    func noteLoss(_ failure: SessionFailure) {
        guard !isLost else { return }
        isLost = true
        lossBegan()
        report(.lost)
        logger.error(
            "The source was lost and is looked for; threads that need a page wait for it, everything else runs",
            metadata: ["reason": "\(failure.message)"]
        )
    }

    /// The source is back: says again what it may not have heard.
    func resumed(over channel: FrameChannel, _ generation: UInt64) -> Bool {
        if let control = loop.channel {
            try? loop.detach()
            shared.ended(control)
        }
        self.generation = generation
        do throws(SystemCallError) {
            try loop.attach(channel)
        } catch {
            shared.ended(channel)
            shared.lost(Loss(ofControl: .system(error)), of: generation, isControl: true)
            return false
        }
        isLost = false
        lossEnded()
        streamSeen.at = .now
        statistics.reconnects += 1
        report(.resumed)
        FaultPoint.hit(.destinationResumed)
        do throws(ChannelError) {
            switch commit.resumed() {
            case .sendBuilt: try loop.send(.built)
            case .sendRunning: try loop.send(.running)
            case .sendComplete(let tally): try loop.send(.complete(tally))
            case .wait, .withhold: break
            }
        } catch {
            controlLost(error)
            return false
        }
        return true
    }
}
