// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A system call that failed in a way its caller did not expect.
public struct SystemCallError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Name of the call, as in its man page.
    public let call: String
    /// What the kernel said.
    public let errno: Errno
    /// What it was applied to: a path, a descriptor, an address range, a thread.
    public let operand: String?

    /// Describes a failed call.
    public init(_ call: String, _ errno: Errno, operand: String? = nil) {
        self.call = call
        self.errno = errno
        self.operand = operand
    }

    /// Name, operand and the kernel's words.
    public var description: String {
        operand.map { "\(call) (\($0)): \(errno)" } ?? "\(call): \(errno)"
    }
}

/// Turns the answer of a `clinux_` function (a value, or `-errno`) into a value or an error.
@discardableResult
public func checked<Value: SignedInteger>(
    _ call: String,
    _ result: Value,
    operand: @autoclosure () -> String? = nil
) throws(SystemCallError) -> Value {
    guard result < 0 else { return result }
    throw SystemCallError(call, Errno(rawValue: Int32(-result)), operand: operand())
}

/// Runs a call of glibc that returns -1 and sets errno; the one place where errno is read.
///
/// - Parameter retryOnInterrupt: whether `EINTR` starts the call again.
@inline(never)
@discardableResult
public func systemCall<Value: SignedInteger>(
    _ name: String,
    retryOnInterrupt: Bool = true,
    operand: @autoclosure () -> String? = nil,
    _ body: () -> Value
) throws(SystemCallError) -> Value {
    while true {
        let result = body()
        guard result == -1 else { return result }
        let number = Glibc.errno
        if number == EINTR && retryOnInterrupt { continue }
        throw SystemCallError(name, Errno(rawValue: number), operand: operand())
    }
}
