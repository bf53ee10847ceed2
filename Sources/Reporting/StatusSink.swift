// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem

/// Where changes of state go (`--status-fd`).
public final class StatusSink: Sendable {
    private let output: LineOutput?
    private let observer: (@Sendable (StatusEvent) -> Void)?

    /// A sink that writes one line of JSON an event to `descriptor`.
    public init(descriptor: consuming OwnedDescriptor) {
        output = LineOutput(descriptor)
        observer = nil
    }

    /// A sink that hands events to `observer`, on the thread on which they happen.
    public init(observer: (@Sendable (StatusEvent) -> Void)? = nil) {
        output = nil
        self.observer = observer
    }

    /// Reports a change of state. That nobody reads the lines any more is no reason to give up a move, so failures to write are dropped.
    public func report(_ event: StatusEvent) {
        observer?(event)
        try? output?.write(line: event.json(time: WallClock.now).line)
    }
}
