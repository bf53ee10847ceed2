// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem
internal import ProcessTrace

/// Why the writes of a process cannot be tracked; the process runs on as before and nothing of the tracker is left in it.
public struct TrackingError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The class of the failure; raw values are the exit codes of the command line.
    public enum Code: Int32, Sendable {
        /// There is no such process, it ended meanwhile, or it has executed another program.
        case noSuchProcess = 66
        /// The kernel lacks what the strategy needs.
        case unavailable = 69
        /// A system call failed that should not have.
        case systemCall = 71
        /// The process could not be stopped in time and was let go: try again.
        case tryAgain = 75
        /// A permission is missing.
        case permission = 77
        /// The process has something that cannot be tracked.
        case refused = 78
    }

    /// The class of the failure.
    public var code: Code
    /// One sentence that names the object and, where there is one, the remedy.
    public var message: String
    /// The call that failed, if one did.
    public var cause: SystemCallError?

    /// Describes a failure.
    public init(_ code: Code, _ message: String, cause: SystemCallError? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    /// The message with the kernel's words.
    public var description: String {
        cause.map { "\(message): \($0)" } ?? message
    }
}

extension TrackingError {
    /// What an error of a lower layer means for a process.
    static func of(_ error: TraceError, pid: Int32, doing action: String) -> Self {
        switch error.code {
        case .gone:
            Self(.noSuchProcess, "there is no process \(pid)", cause: error.cause)
        case .notPermitted:
            Self(.permission, "no permission to \(action) process \(pid): run as root", cause: error.cause)
        case .timedOut:
            Self(.tryAgain, "process \(pid) could not be stopped in time and runs on (\(error.message)): try again")
        case .alreadyTraced:
            Self(.refused, "\(error.message): end the other tracer (a debugger, strace) and try again")
        case .leaderExited:
            Self(
                .refused,
                "the first thread of process \(pid) has ended while others run on; let the program keep its first thread"
            )
        case .malformed, .inaccessible, .unexpected, .systemCall:
            Self(.systemCall, "cannot \(action) process \(pid): \(error.message)", cause: error.cause)
        }
    }

    /// As ``of(_:pid:doing:)`` for a process that was there: it has ended, or executed another program.
    static func of(_ error: TraceError, pid: Int32, process: ProcessDescriptor, doing action: String) -> Self {
        error.code == .gone ? gone(pid, process, cause: error.cause) : of(error, pid: pid, doing: action)
    }

    /// Tells an address space that is gone.
    static func gone(_ pid: Int32, _ process: ProcessDescriptor, cause: SystemCallError? = nil) -> Self {
        let hasEnded = (try? process.waitForEnd(until: .immediate)) ?? true
        let what = hasEnded ? "has ended" : "has executed another program"
        return Self(.noSuchProcess, "process \(pid) \(what)", cause: cause)
    }

    /// What a failed system call means for a process.
    static func of(_ error: SystemCallError, pid: Int32, doing action: String) -> Self {
        switch error.errno {
        case .noSuchProcess, .noEntry:
            Self(.noSuchProcess, "there is no process \(pid)", cause: error)
        case .perm, .access:
            Self(.permission, "no permission to \(action) process \(pid): run as root", cause: error)
        default:
            Self(.systemCall, "cannot \(action) process \(pid)", cause: error)
        }
    }

    /// A mapping that belongs to a userfaultfd of somebody else.
    static func foreign(_ mapping: String, pid: Int32, cause: SystemCallError) -> Self {
        Self(
            .refused,
            "the range \(mapping) of process \(pid) cannot be tracked: it is registered with another userfaultfd; "
                + "wait until it is resident, or let its page fault handler unregister the range",
            cause: cause
        )
    }

    /// Runs `body` and gives its errors the words of this module.
    static func translating<Value>(
        _ pid: Int32,
        _ action: String,
        _ body: () throws(TraceError) -> Value
    ) throws(TrackingError) -> Value {
        do { return try body() } catch { throw of(error, pid: pid, doing: action) }
    }

    /// As ``translating(_:_:_:)`` for calls of the operating system.
    static func translatingCall<Value>(
        _ pid: Int32,
        _ action: String,
        _ body: () throws(SystemCallError) -> Value
    ) throws(TrackingError) -> Value {
        do { return try body() } catch { throw of(error, pid: pid, doing: action) }
    }
}
