// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem

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
    /// What a failed call on a process means: gone, forbidden, or a surprise.
    static func of(_ error: SystemCallError, pid: Int32, doing action: String) -> Self {
        switch error.errno {
        case .noSuchProcess, .noEntry:
            Self(.noSuchProcess, "process \(pid) is gone", cause: error)
        case .perm, .access:
            Self(.permission, "no permission to \(action) process \(pid): run as root", cause: error)
        default:
            Self(.systemCall, "cannot \(action) process \(pid)", cause: error)
        }
    }
}
