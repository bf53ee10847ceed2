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

    private enum Copy {
        case none
        case building(ProcessDescriptor)
        case killed
        case runs
    }

    private let copy = Lock(Copy.none)
    private let threads: SessionThreads

    init() throws(SystemCallError) {
        threads = try SessionThreads()
        losses = try Handover()
    }

    /// Until ``copyRuns()``, a page connection that is lost kills this process: building may wait for a page that never comes.
    func copyIsBuilt(_ process: ProcessDescriptor) {
        copy.withLock { $0 = .building(process) }
    }

    /// The process runs: from now on it waits, whatever becomes of the connections.
    ///
    /// - Returns: whether that is so; else it has been killed just before, and must not be taken for one that has ended by itself.
    func copyRuns() -> Bool {
        copy.withLock { copy in
            guard case .building = copy else { return false }
            copy = .runs
            return true
        }
    }

    /// A page connection does not go on.
    func lost(_ failure: SessionFailure) {
        copy.withLock { copy in
            guard case .building(let process) = copy else { return }
            // One that is gone already needs no signal.
            _ = try? process.send(.kill)
            copy = .killed
        }
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
