// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import Reporting
internal import Synchronization
internal import TLSSession

/// What the threads of a restore share besides the memory.
///
/// The session's connections are one *generation*: what is heard of an earlier one changes nothing any more.
final class RestoreShared: Sendable {
    /// How often pages may come that are not those that the source has read, before the source is given up: memory that
    /// fails once is no reason to, and one that sends nothing right is not asked for ever.
    static let maximumCorruptions = 8

    /// What has become of the connections; for the thread that talks.
    enum ConnectionEvent {
        /// One of them does not go on.
        case lost(Loss, generation: UInt64)
        /// There are new ones, and the source knows what is missing; this is the one of control.
        case resumed(FrameChannel, generation: UInt64)
        /// The source has no such session.
        case refused(SessionFailure)
        /// Nobody listens where the source was, or nobody has answered for too long; it is looked for all the same.
        case gone(SessionFailure)
    }

    /// A fault connection in place of one that was lost.
    struct FaultChannel {
        let channel: FrameChannel
        let generation: UInt64
    }

    let events: Handover<ConnectionEvent>
    /// New fault connections, for the thread that answers faults.
    let faultChannels: Handover<FaultChannel>
    /// Readable while connections have to be made anew.
    let broken: EventDescriptor
    /// Threads that take a stream of pages.
    let streams: ActivityCount
    /// Pages received, bytes of them, faults: for the progress line.
    let bytesReceived = Atomic<UInt64>(0)
    /// Records of TLS that have come by the stream: whether it stands still.
    let streamRecords = Atomic<UInt64>(0)

    /// Where threads of this program may run.
    ///
    /// The thread that builds the process stays on one CPU meanwhile, and those that it starts would inherit that.
    let affinity = try? CPUAffinity()
    /// How pages are asked for.
    let pace = FaultPace()
    /// A number of the session that the source knows as well, and how long threads of faults look; nil before pages are asked for.
    let placing = Lock<(seed: UInt8, spin: Duration)?>(nil)

    private enum Copy {
        case none
        case building(ProcessDescriptor)
        /// It asks for the grant or is being let go: the connections may come back meanwhile.
        case built(ProcessDescriptor)
        case killed
        case runs
    }

    private struct State {
        var copy = Copy.none
        var generation: UInt64 = 1
        var isBroken = false
        var mayReconnect = false
        var needsPages = true
        var corruptions = 0

        /// Whether new connections would not help.
        mutating func isFinal(_ loss: Loss) -> Bool {
            if loss.isCorruption { corruptions += 1 }
            return loss.isFinal || corruptions > RestoreShared.maximumCorruptions
        }
    }

    private let state = Lock(State())
    private let streamStop: Lock<EventDescriptor>
    private let threads: SessionThreads

    init() throws(SystemCallError) {
        threads = try SessionThreads()
        events = try Handover()
        faultChannels = try Handover()
        broken = try EventDescriptor()
        streams = try ActivityCount()
        streamStop = Lock(try EventDescriptor())
    }

    /// Every thread ends when this is signalled.
    var stop: EventDescriptor { threads.stop }

    /// Where the calling thread runs, for ``pace``; nil for anywhere at any time.
    func place(_ role: ThreadPlacement.Role) -> ThreadPlacement? {
        guard let affinity, let (seed, spin) = placing.withLock({ $0 }) else { return nil }
        return ThreadPlacement(affinity, role, seed: seed, spin: spin)
    }

    /// Starts a thread that ends when ``stop`` is signalled.
    func start(
        _ name: String,
        urgency: ThreadUrgency = .usual,
        _ body: sending @escaping () -> Void
    ) throws(SystemCallError) {
        let affinity = affinity
        try threads.start(name, urgency: urgency) {
            // Without it the thread is slower, no more.
            try? affinity?.apply()
            body()
        }
    }

    /// Ends all threads; returns whether they have.
    @discardableResult
    func stopThreads(within limit: Duration) -> Bool {
        threads.stop.signal()
        connectionStop.signal()
        return threads.stopAll(within: limit)
    }

    /// Counts the bytes of a connection that has ended.
    func ended(_ channel: FrameChannel) { threads.ended(channel) }

    /// Bytes of the connections that have ended.
    var bytes: (received: UInt64, sent: UInt64) { threads.bytes }
}

// MARK: - The copy

extension RestoreShared {
    /// Until ``copyIsComplete()``, a page connection that is lost kills this process: building may wait for a page that never comes.
    func copyIsBuilt(_ process: ProcessDescriptor) {
        state.withLock { $0.copy = .building(process) }
    }

    /// Building is over: from now on lost connections are made anew, since the grant may be on its way.
    ///
    /// - Returns: false when the process has been killed just before.
    func copyIsComplete() -> Bool {
        state.withLock { state in
            guard case .building(let process) = state.copy else { return false }
            state.copy = .built(process)
            state.mayReconnect = true
            return true
        }
    }

    /// The process runs: from now on it waits, whatever becomes of the connections.
    ///
    /// - Returns: whether that is so; else it has been killed just before, and must not be taken for one that has ended by itself.
    func copyRuns() -> Bool {
        state.withLock { state in
            switch state.copy {
            case .building, .built: state.copy = .runs
            case .none, .killed, .runs: return false
            }
            return true
        }
    }

    /// The process runs already, and its connections ended with the restorer that has died.
    func copyWasTakenOver() {
        state.withLock { state in
            state.copy = .runs
            state.mayReconnect = true
        }
    }

    /// Letting the process go may wait for a page, and none has come for too long.
    func giveUpRelease() {
        state.withLock { state in
            guard case .built(let process) = state.copy else { return }
            _ = try? process.send(.kill)
            state.copy = .killed
        }
    }
}

// MARK: - Connections

extension RestoreShared {
    /// A connection does not go on.
    ///
    /// - Parameters:
    ///   - loss: why.
    ///   - generation: of the connection; nil when it is nothing of one connection.
    ///   - isControl: whether it is the one of control, which is needed to the end.
    func lost(_ loss: Loss, of generation: UInt64?, isControl: Bool = false) {
        let news = state.withLock { state -> (loss: Loss, generation: UInt64, breaks: Bool)? in
            guard generation == nil || generation == state.generation else { return nil }
            if case .building(let process) = state.copy {
                // One that is gone already needs no signal.
                _ = try? process.send(.kill)
                state.copy = .killed
            }
            let loss = Loss(loss.failure, isFinal: state.isFinal(loss))
            guard !loss.isFinal, state.mayReconnect else { return (loss, state.generation, false) }
            guard !state.isBroken, isControl || state.needsPages else { return nil }
            state.isBroken = true
            return (loss, state.generation, true)
        }
        guard let news else { return }
        events.put(.lost(news.loss, generation: news.generation))
        guard news.breaks else { return }
        connectionStop.signal()
        broken.signal()
    }

    /// Every page is there: page connections that end are no loss any more.
    func pagesAreComplete() {
        state.withLock { $0.needsPages = false }
    }

    /// Whether page connections are needed.
    var needsPages: Bool { state.withLock { $0.needsPages } }

    /// The session is over: no connection is made anew any more.
    func stopReconnecting() {
        state.withLock { $0.mayReconnect = false }
        broken.drain()
    }

    /// Ends what waits for the bulk connection of the present generation.
    var connectionStop: EventDescriptor { streamStop.withLock { $0 } }

    /// What ends the waits of the next bulk connection; the present one's have been ended.
    func renewConnectionStop() throws(SystemCallError) -> EventDescriptor {
        let fresh = try EventDescriptor()
        return streamStop.withLock { present in
            present = fresh
            return fresh
        }
    }

    /// All connections are there again.
    ///
    /// - Returns: their generation; nil when nobody wants them any more.
    func reconnected() -> UInt64? {
        state.withLock { state in
            guard state.mayReconnect else { return nil }
            state.generation += 1
            state.isBroken = false
            broken.drain()
            return state.generation
        }
    }

    /// Takes what has become of the connections; nil when nothing has.
    func nextLoss() -> Loss? {
        while let event = events.take() {
            if case .lost(let loss, _) = event { return loss }
        }
        return nil
    }
}
