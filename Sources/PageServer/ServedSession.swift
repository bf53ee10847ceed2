// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import Paging
internal import Reporting
internal import TLSSession

/// What the threads of a page server share.
final class ServedSession: Sendable {
    /// For messages and names of threads.
    let pid: Int32
    /// How long a fault thread looks for the next request before it goes to sleep.
    let spin: Duration
    /// Who is let in.
    let table = Lock(SessionTable())
    /// Control connections that were let in, for the tracer thread.
    let controls: Handover<FrameChannel>
    /// Which pages exist and which were sent.
    let ledger: PageLedger
    /// Every thread ends when this is signalled.
    let stop: EventDescriptor
    /// The stream of pages may begin: the grant has been recorded, or the destination wants everything first.
    let streamMayBegin: EventDescriptor

    private let sessionStop: Lock<EventDescriptor>
    private let memory = Lock<(any SourceMemory)?>(nil)
    private let threads = Lock(0)
    private let lastThreadEnded: EventDescriptor
    private let traffic = Lock((received: UInt64(0), sent: UInt64(0)))

    init(pid: Int32, spin: Duration) throws(SystemCallError) {
        self.pid = pid
        self.spin = spin
        controls = try Handover()
        ledger = try PageLedger()
        stop = try EventDescriptor()
        sessionStop = Lock(try EventDescriptor())
        streamMayBegin = try EventDescriptor()
        lastThreadEnded = try EventDescriptor()
    }

    /// Signalled when the present session ends, or everything does; what the connections of the session wait for besides their peer.
    var connectionStop: EventDescriptor {
        sessionStop.withLock { $0 }
    }

    /// The session ended before anything happened: its connections end, so that none of them serves the next one.
    func sessionEnded() throws(SystemCallError) {
        let fresh = try EventDescriptor()
        sessionStop.withLock { present in
            present.signal()
            present = fresh
        }
        table.withLock { $0.sessionEnded() }
    }

    /// The memory of the frozen process; nil before the freeze.
    var frozenMemory: (any SourceMemory)? {
        memory.withLock { $0 }
    }

    /// The process is frozen: requests can be served from now on.
    func froze(_ frozen: any SourceMemory) {
        memory.withLock { $0 = frozen }
    }

    /// Starts a thread that ends when ``stop`` is signalled.
    func start(_ name: String, _ body: sending @escaping () -> Void) throws(SystemCallError) {
        threads.withLock { $0 += 1 }
        do throws(SystemCallError) {
            let thread = try NamedThread(name) { [self] in
                body()
                threadEnded()
            }
            thread.detach()
        } catch {
            threadEnded()
            throw error
        }
    }

    private func threadEnded() {
        let left = threads.withLock { count in
            count -= 1
            return count
        }
        if left == 0 { lastThreadEnded.signal() }
    }

    /// Ends all threads; returns whether they have.
    func stopThreads(within limit: Duration) -> Bool {
        stop.signal()
        connectionStop.signal()
        let deadline = Deadline.after(limit)
        while threads.withLock({ $0 }) > 0 {
            guard (try? lastThreadEnded.wait(until: deadline)) == true else { return false }
            lastThreadEnded.drain()
        }
        return true
    }

    /// Counts the bytes of a connection that has ended.
    func ended(_ channel: FrameChannel) {
        let received = channel.bytesReceived
        let sent = channel.bytesSent
        traffic.withLock { traffic in
            traffic.received += received
            traffic.sent += sent
        }
        channel.connection.close()
    }

    /// Bytes of the connections that have ended.
    var bytes: (received: UInt64, sent: UInt64) {
        traffic.withLock { $0 }
    }
}
