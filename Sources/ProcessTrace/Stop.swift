// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// What `waitpid(2)` says of a traced thread.
public enum Stop: Hashable, Sendable {
    /// PTRACE_EVENT_STOP that PTRACE_INTERRUPT or the start of a thread caused.
    case interrupted
    /// PTRACE_EVENT_STOP of a process that a signal (SIGSTOP, SIGTSTP ...) has stopped.
    case groupStop(signal: Int32)
    /// A signal is about to be delivered.
    case signal(Int32)
    /// Entry to or exit from a system call.
    case systemCall
    /// Another PTRACE_EVENT_*.
    case event(Int32)
    /// The thread has ended with a status.
    case exited(status: Int32)
    /// A signal has ended the thread.
    case killed(signal: Int32)

    /// Whether the thread is there and stopped.
    public var isStopped: Bool {
        switch self {
        case .exited, .killed: false
        case .interrupted, .groupStop, .signal, .systemCall, .event: true
        }
    }

    init(waitStatus: Int32) {
        let termination = waitStatus & 0x7f
        let code = (waitStatus >> 8) & 0xff
        guard termination == 0x7f else {
            self = termination == 0 ? .exited(status: code) : .killed(signal: termination)
            return
        }
        let event = (waitStatus >> 16) & 0xff
        switch (event, code) {
        case (clinux_PTRACE_EVENT_STOP, SIGTRAP): self = .interrupted
        case (clinux_PTRACE_EVENT_STOP, _): self = .groupStop(signal: code)
        case (0, SIGTRAP | 0x80): self = .systemCall
        case (0, _): self = .signal(code)
        default: self = .event(event)
        }
    }
}

/// Options of PTRACE_SEIZE.
public struct TraceOptions: OptionSet, Hashable, Sendable {
    /// The bits of the kernel.
    public let rawValue: UInt64

    /// Wraps bits of the kernel.
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// The process is killed when the tracer ends.
    public static let killOnExit = Self(rawValue: clinux_PTRACE_O_EXITKILL)
    /// Threads that the process makes are traced from their beginning.
    public static let traceClone = Self(rawValue: clinux_PTRACE_O_TRACECLONE)
    /// Seccomp filters do not apply while the thread is traced (needs CAP_SYS_ADMIN).
    public static let suspendSeccomp = Self(rawValue: clinux_PTRACE_O_SUSPEND_SECCOMP)
}
