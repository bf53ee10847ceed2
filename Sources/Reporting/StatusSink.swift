// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem

/// Where changes of state go (`--status-fd`).
public final class StatusSink: Sendable {
    private let descriptor: OwnedDescriptor?
    private let number: Int32
    private let observer: (@Sendable (StatusEvent) -> Void)?
    private let order = Lock(UInt8(0))

    /// A sink that writes one line of JSON an event to `descriptor`.
    ///
    /// The caller ignores SIGPIPE.
    public init(descriptor: consuming OwnedDescriptor) {
        number = descriptor.rawValue
        self.descriptor = .some(descriptor)
        observer = nil
    }

    /// A sink that hands events to `observer`, on the thread on which they happen.
    public init(observer: (@Sendable (StatusEvent) -> Void)? = nil) {
        descriptor = nil
        number = -1
        self.observer = observer
    }

    /// Reports a change of state; lines of several threads do not mix.
    public func report(_ event: StatusEvent) {
        observer?(event)
        guard number >= 0 else { return }
        let now = WallTime.now
        let time = Duration.seconds(now.seconds) + .nanoseconds(Int64(now.nanoseconds))
        let line = event.json(time: time).line + "\n"
        order.withLock { _ in
            // That nobody reads the lines any more is no reason to give up a move.
            try? DescriptorIO.write(Array(line.utf8), to: number)
        }
    }
}
