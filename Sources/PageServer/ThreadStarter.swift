// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem

/// Starts threads for those that may not give them what they need: a thread has what the one has that starts it, or less.
final class ThreadStarter: Sendable {
    /// A thread that is wanted.
    private struct Order: Sendable {
        let name: String
        let urgency: ThreadUrgency
        let privileges: Capabilities
        let body: @Sendable () -> Void
        let failed: @Sendable (SystemCallError) -> Void
    }

    private let orders: Handover<Order>
    private let threads: SessionThreads

    init(_ threads: SessionThreads) throws(SystemCallError) {
        self.threads = threads
        orders = try Handover()
    }

    /// Begins to start threads, on one of its own, until the session stops.
    func start(_ name: String) throws(SystemCallError) {
        try threads.start(name, keeping: ThreadPrivileges.starter) { [self] in run() }
    }

    /// Has a thread started.
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
        orders.put(Order(name: name, urgency: urgency, privileges: privileges, body: body, failed: failed))
    }

    private func run() {
        while isWanted {
            guard let order = orders.take() else { continue }
            do throws(SystemCallError) {
                try threads.start(order.name, urgency: order.urgency, keeping: order.privileges, order.body)
            } catch {
                order.failed(error)
            }
        }
    }

    /// Waits for an order; false when the session stops.
    private var isWanted: Bool {
        let outcome = try? DescriptorIO.wait(
            for: .readable,
            on: orders.descriptor,
            interruptedBy: threads.stop,
            until: .never
        )
        return outcome == .ready
    }
}
