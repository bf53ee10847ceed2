// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// How a process ended.
public enum ExitStatus: Hashable, Sendable, CustomStringConvertible {
    /// By `exit` with a status of 0 to 255.
    case exited(Int32)
    /// By a signal.
    case signalled(Signal, coreDumped: Bool)

    /// Status as a shell shows it: 128 + number for a signal.
    public var shellStatus: Int32 {
        switch self {
        case .exited(let status): status
        case .signalled(let signal, coreDumped: _): 128 + signal.rawValue
        }
    }

    /// Decodes the status word of wait(2); `nil` for a process that has only stopped or continued.
    public init?(waitStatus word: Int32) {
        let signal = word & 0x7f
        if signal == 0 {
            self = .exited((word >> 8) & 0xff)
        } else if signal != 0x7f {
            self = .signalled(Signal(rawValue: signal), coreDumped: word & 0x80 != 0)
        } else {
            return nil
        }
    }

    /// A few words.
    public var description: String {
        switch self {
        case .exited(let status): "exit status \(status)"
        case .signalled(let signal, let coreDumped): coreDumped ? "\(signal) (core dumped)" : "\(signal)"
        }
    }
}

/// A process by a descriptor, which never comes to mean another process as a number does.
public final class ProcessDescriptor: Sendable {
    private let owned: OwnedDescriptor

    /// Readable when the process has ended.
    public var descriptor: Int32 { owned.rawValue }

    /// Opens a running process, or a zombie.
    ///
    /// - Throws: ``SystemCallError`` with `ESRCH` when there is no such process.
    ///
    /// The corresponding call is `pidfd_open`.
    public init(pid: Int32) throws(SystemCallError) {
        owned = OwnedDescriptor(
            adopting: try checked("pidfd_open", clinux_pidfd_open(pid, 0), operand: "process \(pid)")
        )
    }

    /// Takes over a descriptor from `clone3(CLONE_PIDFD)` or another process.
    public init(adopting descriptor: consuming OwnedDescriptor) {
        owned = descriptor
    }

    /// Sends a signal.
    ///
    /// - Returns: `false` when the process has ended and was waited for.
    ///
    /// The corresponding call is `pidfd_send_signal`.
    @discardableResult
    public func send(_ signal: Signal) throws(SystemCallError) -> Bool {
        let result = clinux_pidfd_send_signal(owned.rawValue, signal.rawValue)
        if result == -ESRCH { return false }
        try checked("pidfd_send_signal", result, operand: "\(signal)")
        return true
    }

    /// A duplicate (close-on-exec) of a descriptor of the process.
    ///
    /// - Throws: ``SystemCallError``: `EBADF` when the process has no such descriptor, `EPERM` without the permission to trace it.
    ///
    /// The corresponding call is `pidfd_getfd`.
    public func duplicate(_ number: Int32) throws(SystemCallError) -> OwnedDescriptor {
        let result = clinux_pidfd_getfd(owned.rawValue, number)
        return OwnedDescriptor(
            adopting: try checked("pidfd_getfd", result, operand: "descriptor \(number) of another process")
        )
    }

    /// Waits until the process has ended, without taking its status; it need not be a child.
    ///
    /// - Returns: whether it ended before the deadline.
    public func waitForEnd(until deadline: Deadline) throws(SystemCallError) -> Bool {
        try DescriptorIO.wait(for: .readable, on: owned.rawValue, until: deadline)
    }

    /// Waits until the process, a child of this one, has ended, and takes its status (the zombie is gone then).
    ///
    /// - Returns: `nil` at the deadline.
    /// - Throws: ``SystemCallError`` with `ECHILD` when it is not a child or was waited for before.
    ///
    /// The corresponding call is `waitid(P_PIDFD)`.
    public func reap(until deadline: Deadline) throws(SystemCallError) -> ExitStatus? {
        guard try waitForEnd(until: deadline) else { return nil }
        var code: Int32 = 0
        var status: Int32 = 0
        var result: Int32
        repeat {
            // SAFETY: two numbers that live during the call.
            result = unsafe clinux_pidfd_wait(owned.rawValue, WEXITED, &code, &status)
        } while result == -EINTR
        try checked("waitid", result)
        if code == Int32(CLD_EXITED) { return .exited(status) }
        return .signalled(Signal(rawValue: status), coreDumped: code == Int32(CLD_DUMPED))
    }
}

extension ProcessDescriptor {
    /// Has the kernel copy memory of the process into huge pages.
    ///
    /// Pages that are missing in it come to be there as zeros.
    ///
    /// - Parameters:
    ///   - address: a border of huge pages.
    ///   - byteCount: whole huge pages.
    /// - Throws: ``SystemCallError``: `EINVAL` where no huge pages can be, `ENOMEM` when there is none, `EBUSY` or `EAGAIN` when a page
    ///   is in use, `ESRCH` when the process has ended, `EPERM` without CAP_SYS_NICE and the permission to trace it.
    ///
    /// The corresponding call is `process_madvise` with `MADV_COLLAPSE` (Linux 6.1).
    public func collapse(at address: UInt64, byteCount: Int) throws(SystemCallError) {
        let result = clinux_process_collapse(owned.rawValue, address, byteCount)
        try checked("process_madvise", result, operand: "0x\(String(address, radix: 16))")
    }
}
