// SPDX-License-Identifier: Apache-2.0

/// Why a connection or a listener could not be made.
public struct SocketError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What kind of failure.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Value: Hashable, Sendable {
            case unresolvable, refused, unreachable, timedOut, addressInUse, addressNotAvailable, permission, systemCall
        }

        private let value: Value

        /// The host name or address has no meaning here.
        public static let unresolvable = Code(value: .unresolvable)
        /// Nobody listens there.
        public static let refused = Code(value: .refused)
        /// No way there.
        public static let unreachable = Code(value: .unreachable)
        /// No answer before the deadline.
        public static let timedOut = Code(value: .timedOut)
        /// Another program listens on this port.
        public static let addressInUse = Code(value: .addressInUse)
        /// The address is not one of this machine.
        public static let addressNotAvailable = Code(value: .addressNotAvailable)
        /// A port below 1024, without the right to it.
        public static let permission = Code(value: .permission)
        /// A call failed that should not have.
        public static let systemCall = Code(value: .systemCall)

        /// The name of the case.
        public var description: String { "\(value)" }
    }

    /// What kind of failure.
    public let code: Code
    /// What happened, to what, and what can be done.
    public let message: String
    /// The call that failed, if one did.
    public let cause: SystemCallError?

    init(_ code: Code, _ message: String, cause: SystemCallError? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    /// The message and its cause.
    public var description: String {
        cause.map { "\(message) (\($0))" } ?? message
    }
}
