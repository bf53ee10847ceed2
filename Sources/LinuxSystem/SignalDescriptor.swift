// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// Signals as data: what is sent to this process is read from a descriptor instead of interrupting a thread.
///
/// Equal signals that are pending together may come as one: on ``Signal/child`` ask for every known child.
public final class SignalDescriptor: Sendable {
    /// One signal that was sent.
    public struct Received: Hashable, Sendable {
        /// Which signal.
        public let signal: Signal
        /// What kind of sender it had: `SI_USER`, `SI_QUEUE`, `CLD_EXITED` and so on (`si_code`).
        public let code: Int32
        /// Who sent it, or the child of a ``Signal/child``.
        public let sender: Int32
        /// Real user of the sender.
        public let user: UInt32
        /// Exit status or signal of a ``Signal/child``.
        public let status: Int32
        /// What came with `sigqueue`.
        public let value: Int32
    }

    private let owned: OwnedDescriptor

    /// Readable while one of the signals is pending.
    public var descriptor: Int32 { owned.rawValue }

    /// Blocks the signals in the calling thread and opens a descriptor for them.
    ///
    /// Call it before other threads are started, so that they inherit the mask.
    ///
    /// The corresponding call is `signalfd`.
    public init(_ signals: SignalSet) throws(SystemCallError) {
        try signals.block()
        owned = OwnedDescriptor(adopting: try checked("signalfd", clinux_signalfd(signals.rawValue)))
    }

    /// The next pending signal, or `nil`; does not wait.
    public func next() throws(SystemCallError) -> Received? {
        var info = clinux_signal_info()
        // SAFETY: the shim writes one structure that lives during the call.
        guard try checked("read", unsafe clinux_read_signal(owned.rawValue, &info), operand: "signalfd") == 1 else {
            return nil
        }
        return Received(
            signal: Signal(rawValue: info.number),
            code: info.code,
            sender: Int32(truncatingIfNeeded: info.pid),
            user: info.uid,
            status: info.status,
            value: info.value
        )
    }
}
