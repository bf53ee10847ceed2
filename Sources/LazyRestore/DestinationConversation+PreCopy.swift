// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import Logging
internal import PageWire
internal import Paging
internal import Reporting
internal import Synchronization

// The process still runs at the source. Whatever goes wrong here, nothing has happened to it.
extension DestinationConversation {
    /// The part of the free memory of this machine that pre-copied pages may take, in percent.
    private static let memoryShare: UInt64 = 75

    /// The thread that receives, as the thread that talks sees it.
    private struct Receiver {
        let rounds: Handover<PreCopyRound>
        let results: Handover<Result<PreCopyThread.Result, SessionFailure>>
    }

    /// Fetches pages until the source says that it is time to freeze.
    ///
    /// - Parameter bulk: the connection on which they come; it is there again when this returns.
    /// - Returns: what was kept, nil when nothing was.
    func preCopy(_ bulk: Handover<FrameChannel>) throws(SessionFailure) -> PageStore? {
        let receiver: Receiver
        let limit: UInt64
        do throws(SystemCallError) {
            limit = try AvailableMemory.byteCount() / 100 * Self.memoryShare / PageSize.base
            receiver = try startReceiver(bulk, limit: limit)
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
        defer {
            try? loop.unwatch(receiver.results.descriptor)
            try? loop.unwatch(receiver.rounds.descriptor)
        }
        let pause = options.maximumPause.components
        let nanoseconds = UInt64(max(0, pause.seconds)) * 1_000_000_000 + UInt64(pause.attoseconds / 1_000_000_000)
        try send(
            .preCopy(
                PreCopyRequest(rounds: options.preCopyRounds, maximumPause: nanoseconds, maximumPages: limit)
            )
        )
        let result = try wait(for: receiver)
        statistics.tracker = "\(result.tracker)"
        if result.tracker == .none {
            logger.notice("Nothing could be copied while the process ran: the source has no tracker")
        }
        return result.staged.pages.isEmpty ? nil : result.staged
    }

    private func startReceiver(_ bulk: Handover<FrameChannel>, limit: UInt64) throws(SystemCallError) -> Receiver {
        let receiver = Receiver(rounds: try Handover(), results: try Handover())
        let (rounds, results) = (receiver.rounds, receiver.results)
        let staged = try PageStore(limit: limit)
        let thread = PreCopyThread(into: staged, shared: shared, patience: options.answerTimeout) { rounds.put($0) }
        try loop.watch(results.descriptor, token: Token.preCopy)
        try loop.watch(rounds.descriptor, token: Token.preCopy)
        try shared.start("pre-copy") {
            guard let channel = bulk.take() else { return }
            let result = Result { () throws(SessionFailure) in try thread.run(channel) }
            bulk.put(channel)
            results.put(result)
        }
        return receiver
    }

    private func wait(for receiver: Receiver) throws(SessionFailure) -> PreCopyThread.Result {
        while true {
            let event: ControlLoop.Event
            do throws(ChannelError) {
                event = try loop.next(until: .never)
            } catch {
                throw SessionFailure(lostBeforeGrant: error)
            }
            switch event {
            case .message(let message): throw SessionFailure(lostBeforeGrant: .unexpected(message.kind))
            case .signal(let signal): try endIfAsked(by: signal)
            case .ready:
                while let round = receiver.rounds.take() { preCopied(round) }
                switch receiver.results.take() {
                case .success(let result): return result
                case .failure(let failure): throw cause(of: failure)
                case nil: continue
                }
            case .timedOut: continue
            }
        }
    }

    private func preCopied(_ round: PreCopyRound) {
        statistics.preCopyRounds.append((round.pages, .nanoseconds(Int64(clamping: round.duration))))
        report(.preCopy(round: Int(round.number), pages: round.pages))
    }
}
