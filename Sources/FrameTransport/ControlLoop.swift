// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem
public import PageWire
internal import TLSSession

/// What a thread that talks over a control connection waits for: frames, signals, other threads, time.
///
/// Answers pings by itself, and turns an ABORT into an error.
public final class ControlLoop {
    /// What happened.
    public enum Event {
        /// A message came.
        case message(Message)
        /// A signal was sent to this process.
        case signal(Signal)
        /// Another thread, or a process, wants something: the token that the descriptor was added with.
        case ready(UInt64)
        /// The deadline has passed.
        case timedOut
    }

    private static let controlToken: UInt64 = .max
    private static let signalToken: UInt64 = .max - 1

    /// How often it is looked whether the other machine is still there, and for how long it may answer nothing.
    private static let lookInterval = Duration.seconds(3)
    private static let patience = Duration.seconds(12)

    private let poller: Poller
    private let signals: SignalDescriptor
    private let sendTimeout: Duration
    /// When the peer was heard last, or its connection began.
    public private(set) var lastHeard = MonotonicTime.now
    /// When it is to be looked for a machine that has gone.
    private var nextLook = Deadline.never
    /// The token that was reported last.
    private var lastReady: UInt64 = 0
    /// The connection, while there is one.
    public private(set) var channel: FrameChannel?

    /// A loop without connection.
    ///
    /// - Parameters:
    ///   - signals: what is reported as ``Event/signal(_:)``.
    ///   - sendTimeout: how long the peer may keep this side from sending one message.
    public init(signals: SignalDescriptor, sendTimeout: Duration) throws(SystemCallError) {
        self.signals = signals
        self.sendTimeout = sendTimeout
        poller = try Poller()
        try poller.add(signals.descriptor, token: Self.signalToken)
    }

    /// Reports ``Event/ready(_:)`` with `token` while the descriptor is readable.
    public func watch(_ descriptor: Int32, token: UInt64) throws(SystemCallError) {
        try poller.add(descriptor, token: token)
    }

    /// Reports ``Event/ready(_:)`` with `token` when the other end of the descriptor is gone, whatever can be read.
    public func watchForEnd(of descriptor: Int32, token: UInt64) throws(SystemCallError) {
        try poller.add(descriptor, token: token, for: [])
    }

    /// Forgets a descriptor.
    public func unwatch(_ descriptor: Int32) throws(SystemCallError) {
        try poller.remove(descriptor)
    }

    /// Talks over this connection from now on.
    public func attach(_ channel: FrameChannel) throws(SystemCallError) {
        try detach()
        try poller.add(channel.connection.descriptor, token: Self.controlToken)
        self.channel = channel
        lastHeard = .now
        nextLook = .after(Self.lookInterval)
    }

    /// Talks over no connection from now on; the connection stays open as long as somebody keeps it.
    public func detach() throws(SystemCallError) {
        guard let channel else { return }
        self.channel = nil
        nextLook = .never
        try poller.remove(channel.connection.descriptor)
    }

    /// Waits for the next thing that happens; signals first, since they are the operator's.
    public func next(until deadline: Deadline) throws(ChannelError) -> Event {
        while true {
            if let signal = try nextSignal() { return .signal(signal) }
            if let message = try nextMessage() { return .message(message) }
            if let event = try wait(until: deadline) { return event }
        }
    }

    /// A signal that has come already.
    public func nextSignal() throws(ChannelError) -> Signal? {
        do throws(SystemCallError) {
            return try signals.next()?.signal
        } catch {
            throw .system(error)
        }
    }

    /// Sends a message over the connection; without one the peer counts as gone.
    public func send(_ message: Message) throws(ChannelError) {
        guard let channel else { throw .closed }
        try channel.send(message, until: .after(sendTimeout))
    }

    private func nextMessage() throws(ChannelError) -> Message? {
        while let channel {
            let received = try channel.receive()
            if case .nothing = received { return nil }
            lastHeard = .now
            switch received {
            case .nothing: return nil
            case .pages(let frame): throw .unexpected(frame.kind)
            case .message(.ping): try send(.pong)
            case .message(.pong): continue
            case .message(.abort(let code, let text)): throw .aborted(code: code, text: text)
            case .message(let message): return message
            }
        }
        return nil
    }

    /// Whether the machine at the other end answers nothing any more: no end of the connection ever comes from there.
    private func isPeerGone() -> Bool {
        guard let channel else { return false }
        nextLook = .after(Self.lookInterval)
        return SocketTuning.isUnanswered(channel.connection.descriptor, for: Self.patience)
    }

    private func wait(until deadline: Deadline) throws(ChannelError) -> Event? {
        if nextLook.hasPassed && isPeerGone() { throw .timedOut }
        do throws(SystemCallError) {
            let count = try poller.wait(until: deadline.earlier(nextLook))
            guard count > 0 else { return deadline.hasPassed ? .timedOut : nil }
            let ready = (0..<count).map { poller[$0].token }.filter { $0 < Self.signalToken }.sorted()
            // Each in its turn: one that stays readable must not hide the others.
            guard let token = ready.first(where: { $0 > lastReady }) ?? ready.first else { return nil }
            lastReady = token
            return .ready(token)
        } catch {
            throw .system(error)
        }
    }
}
