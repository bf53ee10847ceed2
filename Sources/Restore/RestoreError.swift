// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem
internal import ProcessTrace

/// Why a process could not be rebuilt; nothing of it is left.
public struct RestoreError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The class of the failure; raw values are the exit codes of the command line.
    public enum Code: Int32, Sendable {
        /// The description contradicts itself.
        case badDescription = 65
        /// The machine lacks something that is required.
        case unavailable = 69
        /// A system call failed that should not have.
        case systemCall = 71
        /// The half-built process ended: somebody killed it.
        case ended = 75
        /// A permission is missing.
        case permission = 77
        /// This machine cannot take the process: an id is taken, a file is missing or another one.
        case refused = 78
    }

    /// The class of the failure.
    public let code: Code
    /// One sentence that names the object and, where there is one, the remedy.
    public let message: String
    /// The call that failed, if one did.
    public let cause: SystemCallError?

    /// Describes a failure.
    public init(_ code: Code, _ message: String, cause: SystemCallError? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    /// The message and the kernel's words.
    public var description: String {
        cause.map { "\(message): \($0)" } ?? message
    }
}

extension RestoreError {
    /// Runs calls on this machine, naming what they were for.
    static func wrap<Value: ~Copyable>(
        _ action: @autoclosure () -> String,
        _ body: () throws(SystemCallError) -> Value
    ) throws(RestoreError) -> Value {
        do {
            return try body()
        } catch {
            throw RestoreError(Self.code(of: error.errno), "cannot \(action())", cause: error)
        }
    }

    /// Runs something on the traced process, naming what it was for.
    static func trace<Value>(
        _ action: @autoclosure () -> String,
        _ body: () throws(TraceError) -> Value
    ) throws(RestoreError) -> Value {
        do {
            return try body()
        } catch {
            throw RestoreError(error, action())
        }
    }

    /// What a failure of the tracer means here.
    init(_ error: TraceError, _ action: String) {
        let code: Code =
            switch error.code {
            case .gone, .leaderExited: .ended
            case .notPermitted, .alreadyTraced: .permission
            case .timedOut, .malformed, .inaccessible, .unexpected, .systemCall: .systemCall
            }
        self.init(code, "cannot \(action): \(error.message)", cause: error.cause)
    }

    /// The class of a failed call.
    static func code(of errno: Errno) -> Code {
        switch errno {
        case .perm, .access: .permission
        case .noSuchProcess, .noChild: .ended
        case .noSystemCall: .unavailable
        default: .systemCall
        }
    }
}
