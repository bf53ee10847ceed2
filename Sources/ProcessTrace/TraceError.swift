// SPDX-License-Identifier: Apache-2.0
internal import Glibc
public import LinuxSystem

/// Why a process could not be traced, read or altered.
public struct TraceError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What kind of failure it is.
    public enum Code: Hashable, Sendable {
        /// The process or thread has ended.
        case gone
        /// The kernel does not allow it to this user.
        case notPermitted
        /// Another tracer has the thread already.
        case alreadyTraced
        /// The first thread of the process has ended while others run on.
        case leaderExited
        /// A thread did not stop before the deadline.
        case timedOut
        /// A file of `/proc` holds a line that is not understood.
        case malformed
        /// Memory of the process cannot be read or written there.
        case inaccessible
        /// An injected call or the process behaved in a way that should not happen.
        case unexpected
        /// Any other failed system call.
        case systemCall
    }

    /// What kind of failure it is.
    public let code: Code
    /// One sentence that names the object.
    public let message: String
    /// The call that failed, if one did.
    public let cause: SystemCallError?

    /// Describes a failure.
    public init(_ code: Code, _ message: String, cause: SystemCallError? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    /// The message with its cause.
    public var description: String {
        cause.map { "\(message): \($0)" } ?? message
    }
}

extension TraceError {
    /// Describes a failed call on `object`.
    init(_ cause: SystemCallError, _ object: String) {
        let code: Code =
            switch cause.errno {
            case .noSuchProcess, .noChild: .gone
            case .perm, .access: .notPermitted
            case .timedOut: .timedOut
            default: .systemCall
            }
        self.init(code, object, cause: cause)
    }

    /// Turns the answer of a `clinux_` function into a value or an error about `object`.
    @discardableResult
    static func check<Value: SignedInteger>(
        _ call: String,
        _ result: Value,
        _ object: @autoclosure () -> String
    ) throws(TraceError) -> Value {
        guard result < 0 else { return result }
        throw TraceError(SystemCallError(call, Errno(rawValue: Int32(-result))), object())
    }
}
