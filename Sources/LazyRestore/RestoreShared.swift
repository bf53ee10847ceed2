// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import Reporting
internal import Synchronization
internal import TLSSession

/// What the threads of a restore share besides the memory.
final class RestoreShared: Sendable {
    /// Why a page connection does not go on; for the thread that talks.
    let losses: Handover<SessionFailure>
    /// Pages received, bytes of them, faults: for the progress line.
    let bytesReceived = Atomic<UInt64>(0)

    private let victim = Lock<ProcessDescriptor?>(nil)
    private let threads: SessionThreads

    init() throws(SystemCallError) {
        threads = try SessionThreads()
        losses = try Handover()
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

    /// Every thread ends when this is signalled.
    var stop: EventDescriptor { threads.stop }

    /// Starts a thread that ends when ``stop`` is signalled.
    func start(_ name: String, _ body: sending @escaping () -> Void) throws(SystemCallError) {
        try threads.start(name, body)
    }

    /// Ends all threads; returns whether they have.
    @discardableResult
    func stopThreads(within limit: Duration) -> Bool { threads.stopAll(within: limit) }

    /// Counts the bytes of a connection that has ended.
    func ended(_ channel: FrameChannel) { threads.ended(channel) }

    /// Bytes of the connections that have ended.
    var bytes: (received: UInt64, sent: UInt64) { threads.bytes }
}
