// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem
internal import ProcessTrace

/// A process that could not be examined, frozen or described; it runs on as before unless the message says otherwise.
public struct CheckpointError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The class of the failure; raw values are the exit codes of the command line.
    public enum Code: Int32, Sendable {
        /// There is no such process, or it ended meanwhile.
        case noSuchProcess = 66
        /// The machine lacks something that is required.
        case unavailable = 69
        /// A system call failed that should not have.
        case systemCall = 71
        /// The process could not be stopped in time and was let go: try again.
        case tryAgain = 75
        /// A permission is missing.
        case permission = 77
        /// The process has something that cannot be carried; nothing was changed.
        case refused = 78
    }

    /// The class of the failure.
    public var code: Code
    /// One sentence that names the object and, where there is one, the remedy.
    public var message: String
    /// All that cannot be carried, when the code is ``Code/refused``; else empty.
    public var findings: [Finding]
    /// The call that failed, if one did.
    public var cause: SystemCallError?

    /// Describes a failure.
    public init(_ code: Code, _ message: String, cause: SystemCallError? = nil) {
        self.code = code
        self.message = message
        self.findings = []
        self.cause = cause
    }

    /// Describes a refusal.
    public init(refusing pid: Int32, _ findings: [Finding]) {
        self.code = .refused
        self.message =
            findings.count == 1
            ? "process \(pid) has something that cannot be carried"
            : "process \(pid) has \(findings.count) things that cannot be carried"
        self.findings = findings
    }

    /// The message, the findings one a line, and the kernel's words.
    public var description: String {
        let words = cause.map { "\(message): \($0)" } ?? message
        return ([words] + findings.map { "  \($0)" }).joined(separator: "\n")
    }
}

extension CheckpointError {
    /// What an error of a lower layer means for a process: gone, forbidden, too slow, or a surprise.
    static func of(_ error: any Error, pid: Int32, doing action: String) -> Self {
        switch error {
        case let error as CheckpointError: error
        case let error as TraceError: of(error, pid: pid, doing: action)
        case let error as SystemCallError: of(error, pid: pid, doing: action)
        default: Self(.systemCall, "cannot \(action) process \(pid): \(error)")
        }
    }

    private static func of(_ error: SystemCallError, pid: Int32, doing action: String) -> Self {
        switch error.errno {
        case .noSuchProcess, .noEntry:
            Self(.noSuchProcess, "process \(pid) is gone", cause: error)
        case .perm, .access:
            Self(.permission, "no permission to \(action) process \(pid): run as root", cause: error)
        default:
            Self(.systemCall, "cannot \(action) process \(pid)", cause: error)
        }
    }

    private static func of(_ error: TraceError, pid: Int32, doing action: String) -> Self {
        switch error.code {
        case .gone:
            Self(.noSuchProcess, "there is no process \(pid)", cause: error.cause)
        case .notPermitted:
            Self(.permission, "no permission to \(action) process \(pid): run as root", cause: error.cause)
        case .timedOut:
            Self(.tryAgain, "process \(pid) could not be stopped in time and runs on (\(error.message)): try again")
        case .alreadyTraced:
            Self(refusing: pid, [Finding(.tracer, error.message)])
        case .leaderExited:
            Self(
                .refused,
                "the first thread of process \(pid) has ended while others run on: it cannot be carried; "
                    + "let the program keep its first thread"
            )
        case .malformed, .inaccessible, .unexpected, .systemCall:
            Self(.systemCall, "cannot \(action) process \(pid): \(error.message)", cause: error.cause)
        }
    }

    /// Runs `body` and gives its errors the words of this module.
    static func translating<Value>(
        _ pid: Int32,
        _ action: String,
        _ body: () throws -> Value
    ) throws(CheckpointError) -> Value {
        do {
            return try body()
        } catch {
            throw of(error, pid: pid, doing: action)
        }
    }
}
