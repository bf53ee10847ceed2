// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem
internal import TLSSession

/// The threads of a session: how many there are, how they are told to end, and what their connections have carried.
public final class SessionThreads: Sendable {
    /// Every thread ends when this is signalled.
    public let stop: EventDescriptor

    private let count = Lock(0)
    private let lastEnded: EventDescriptor
    private let traffic = Lock((received: UInt64(0), sent: UInt64(0)))

    /// No thread yet.
    ///
    /// - Throws: SystemCallError when this program may not open more descriptors.
    public init() throws(SystemCallError) {
        stop = try EventDescriptor()
        lastEnded = try EventDescriptor()
    }

    /// Starts a thread that ends when ``stop`` is signalled.
    ///
    /// - Parameters:
    ///   - name: the kernel keeps the first 15 bytes.
    ///   - urgency: how soon it has to run when it has something to do.
    ///   - privileges: the capabilities that it keeps of those of the calling thread; nil for all.
    ///   - body: runs on the new thread.
    /// - Throws: SystemCallError when there can be no more threads.
    public func start(
        _ name: String,
        urgency: ThreadUrgency = .usual,
        keeping privileges: Capabilities? = nil,
        _ body: sending @escaping () -> Void
    ) throws(SystemCallError) {
        count.withLock { $0 += 1 }
        do throws(SystemCallError) {
            try FaultPoint.check(.threadStarted)
            let thread = try NamedThread(name, urgency: urgency) { [self] in
                // Fails only where a filter forbids the call itself; the thread does the same with more.
                try? privileges?.limitCurrentThread()
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
        let left = count.withLock { count in
            count -= 1
            return count
        }
        if left == 0 { lastEnded.signal() }
    }

    /// Tells all threads to end and waits until they have.
    ///
    /// - Returns: false when the last one has not ended within the limit.
    @discardableResult
    public func stopAll(within limit: Duration) -> Bool {
        stop.signal()
        let deadline = Deadline.after(limit)
        while count.withLock({ $0 }) > 0 {
            guard (try? lastEnded.wait(until: deadline)) == true else { return false }
            lastEnded.drain()
        }
        return true
    }

    /// Closes a connection that has ended and counts its bytes.
    public func ended(_ channel: FrameChannel) {
        let received = channel.bytesReceived
        let sent = channel.bytesSent
        traffic.withLock { traffic in
            traffic.received += received
            traffic.sent += sent
        }
        channel.connection.close()
    }

    /// Bytes of the connections that have ended.
    public var bytes: (received: UInt64, sent: UInt64) {
        traffic.withLock { $0 }
    }
}
