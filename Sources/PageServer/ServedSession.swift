// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import PageWire
internal import Paging
internal import Reporting
internal import TLSSession

/// A control connection that was let in.
struct ArrivedControl {
    let channel: FrameChannel
    /// Which one of the session it is.
    let generation: UInt64
}

/// What the threads of a page server share.
final class ServedSession: Sendable {
    /// For messages and names of threads.
    let pid: Int32
    /// How long a fault thread looks for the next request before it goes to sleep.
    let spin: Spin
    /// How pages are asked for.
    let pace = FaultPace()
    /// Who is let in.
    let table = Lock(SessionTable())
    /// Control connections that were let in, for the tracer thread.
    let controls: Handover<ArrivedControl>
    /// Fault and bulk connections that are let in or served.
    let pageConnections: ActivityCount
    /// Signalled when a destination has come back before the grant: its session is over.
    let abandoned: EventDescriptor
    /// What the thread of a bulk connection is to send before the freeze.
    let preCopyJobs: Handover<PreCopyJob>
    /// Which pages exist and which were sent.
    let ledger: PageLedger
    /// The stream of pages may begin: the grant has been recorded, or the destination wants everything first.
    let streamMayBegin: EventDescriptor

    private let sessionStop: Lock<EventDescriptor>
    private let memory = Lock<(any SourceMemory)?>(nil)
    private let threads: SessionThreads
    /// Starts the threads that serve pages.
    private let starter: ThreadStarter

    init(pid: Int32, spin: Duration) throws(SystemCallError) {
        self.pid = pid
        self.spin = Spin(spin)
        controls = try Handover()
        abandoned = try EventDescriptor()
        pageConnections = try ActivityCount()
        preCopyJobs = try Handover()
        ledger = try PageLedger()
        threads = try SessionThreads()
        starter = try ThreadStarter(threads)
        sessionStop = Lock(try EventDescriptor())
        streamMayBegin = try EventDescriptor()
    }

    /// Where the calling thread runs, for ``pace``; nil for anywhere at any time.
    func place(_ role: ThreadPlacement.Role, of session: SessionIdentifier) -> ThreadPlacement? {
        guard let usual = try? CPUAffinity() else { return nil }
        return ThreadPlacement(usual, role, seed: session.bytes[0], spin: spin.limit)
    }

    /// Signalled when the present session ends, or everything does; what the connections of the session wait for besides their peer.
    var connectionStop: EventDescriptor {
        sessionStop.withLock { $0 }
    }

    /// The session ended before anything happened: its connections end, so that none of them serves the next one.
    func sessionEnded() throws(SystemCallError) {
        try replaceConnections()
        table.withLock { $0.sessionEnded() }
        abandoned.drain()
    }

    /// All connections of the session end; those that come from now on are others.
    func replaceConnections() throws(SystemCallError) {
        let fresh = try EventDescriptor()
        sessionStop.withLock { present in
            present.signal()
            present = fresh
        }
    }

    /// The memory of the frozen process; nil before the freeze.
    var frozenMemory: (any SourceMemory)? {
        memory.withLock { $0 }
    }

    /// The process is frozen: requests can be served from now on.
    func froze(_ frozen: any SourceMemory) {
        memory.withLock { $0 = frozen }
    }

    /// Every thread ends when this is signalled.
    var stop: EventDescriptor { threads.stop }

    /// Starts a thread that ends when ``stop`` is signalled.
    func start(
        _ name: String,
        urgency: ThreadUrgency = .usual,
        keeping privileges: Capabilities,
        _ body: sending @escaping () -> Void
    ) throws(SystemCallError) {
        try threads.start(name, urgency: urgency, keeping: privileges, body)
    }

    /// Makes it possible to start threads that serve pages; to be called on a thread that may do what they may.
    func startStarter() throws(SystemCallError) {
        try starter.start("starter-\(pid)")
    }

    /// Has a thread started that serves pages, by whoever has let its connection in.
    ///
    /// - Parameters:
    ///   - name: the kernel keeps the first 15 bytes.
    ///   - urgency: how soon it has to run when it has something to do.
    ///   - privileges: what it may do.
    ///   - body: runs on the new thread.
    ///   - failed: is called when there can be no more threads; one of the two is.
    func order(
        _ name: String,
        urgency: ThreadUrgency,
        keeping privileges: Capabilities,
        _ body: @Sendable @escaping () -> Void,
        failed: @Sendable @escaping (SystemCallError) -> Void
    ) {
        starter.order(name, urgency: urgency, keeping: privileges, body, failed: failed)
    }

    /// Ends all threads; returns whether they have.
    func stopThreads(within limit: Duration) -> Bool {
        // Before the connections, so that no thread takes this for the end of one session only.
        stop.signal()
        connectionStop.signal()
        return threads.stopAll(within: limit)
    }

    /// Counts the bytes of a connection that has ended.
    func ended(_ channel: FrameChannel) { threads.ended(channel) }

    /// Bytes of the connections that have ended.
    var bytes: (received: UInt64, sent: UInt64) { threads.bytes }
}
