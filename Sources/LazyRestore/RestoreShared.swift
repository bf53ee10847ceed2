// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import Reporting
internal import Synchronization
internal import TLSSession

/// What the threads of a restore share besides the memory.
final class RestoreShared: Sendable {
    /// Every thread ends when this is signalled.
    let stop: EventDescriptor
    /// Why a page connection does not go on; for the thread that talks.
    let losses: Handover<SessionFailure>
    /// Pages received, bytes of them, faults: for the progress line.
    let bytesReceived = Atomic<UInt64>(0)

    private let victim = Lock<ProcessDescriptor?>(nil)
    private let threads = Lock(0)
    private let lastThreadEnded: EventDescriptor
    private let traffic = Lock((received: UInt64(0), sent: UInt64(0)))

    init() throws(SystemCallError) {
        stop = try EventDescriptor()
        losses = try Handover()
        lastThreadEnded = try EventDescriptor()
    }

    /// Until ``copyRuns()``, a page connection that is lost kills this process: building may wait for a page that never comes.
    func copyIsBuilt(_ process: ProcessDescriptor) {
        victim.withLock { $0 = process }
    }

    /// The process runs: from now on it waits, whatever becomes of the connections.
    func copyRuns() {
        victim.withLock { $0 = nil }
    }

    /// A page connection does not go on.
    func lost(_ failure: SessionFailure) {
        victim.withLock { victim in _ = try? victim?.send(.kill) }
        losses.put(failure)
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
    @discardableResult
    func stopThreads(within limit: Duration) -> Bool {
        stop.signal()
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
