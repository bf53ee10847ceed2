// SPDX-License-Identifier: Apache-2.0

/// What a command says to the shell; sysexits(3) where it has a word.
public enum ExitCode: Int32, Sendable, CaseIterable {
    /// Done.
    case done = 0
    /// Wrong usage of a command.
    case usage = 64
    /// An image, a message or a certificate file does not parse.
    case badInput = 65
    /// No such process, file or directory.
    case notFound = 66
    /// The machine lacks something that is required.
    case unavailable = 69
    /// A bug in Thaw.
    case bug = 70
    /// A system call failed that should not have.
    case systemCall = 71
    /// The grant was given, but the move did not complete: the source process stays stopped and waits for an operator.
    case interrupted = 74
    /// The other side is gone and the operation was undone: try again.
    case tryAgain = 75
    /// The peer spoke wrongly or was not authorised.
    case peer = 76
    /// A permission is missing.
    case permission = 77
    /// The process has something that cannot be carried; nothing was changed.
    case refused = 78
}

/// Why an operation did not succeed, as its user reads it.
public struct SessionFailure: Error, Equatable, Sendable, CustomStringConvertible {
    /// What the shell is told.
    public var code: ExitCode
    /// One sentence that names the object and, where there is one, the remedy.
    public var message: String
    /// Further lines, one finding each.
    public var details: [String]

    /// Describes a failure.
    public init(_ code: ExitCode, _ message: String, details: [String] = []) {
        self.code = code
        self.message = message
        self.details = details
    }

    /// The message and its details, one a line.
    public var description: String {
        ([message] + details.map { "  " + $0 }).joined(separator: "\n")
    }
}

/// How a command ended.
public struct Outcome: Equatable, Sendable {
    /// The status for exit(2): an ``ExitCode``, or the restored process's own.
    public var exitStatus: Int32
    /// What went wrong, if anything did.
    public var failure: SessionFailure?

    /// A command that succeeded, or one that passes on the status of the process that it ran.
    public init(exitStatus: Int32 = ExitCode.done.rawValue) {
        self.exitStatus = exitStatus
    }

    /// A command that failed.
    public init(_ failure: SessionFailure) {
        self.exitStatus = failure.code.rawValue
        self.failure = failure
    }
}
