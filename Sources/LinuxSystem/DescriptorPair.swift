// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// Two connected descriptors, each to be taken by whoever owns it from then on; what is not taken is closed.
public struct DescriptorPair: ~Copyable, Sendable {
    /// What a pair of UNIX sockets keeps together.
    public enum SocketKind: Sendable {
        /// A stream of bytes. The corresponding C constant is `SOCK_STREAM`.
        case stream
        /// Messages. The corresponding C constant is `SOCK_SEQPACKET`.
        case messages
    }

    private var first: OwnedDescriptor?
    private var second: OwnedDescriptor?

    private init(_ numbers: (Int32, Int32)) {
        first = OwnedDescriptor(adopting: numbers.0)
        second = OwnedDescriptor(adopting: numbers.1)
    }

    /// Two connected UNIX sockets, close-on-exec, blocking.
    ///
    /// The corresponding call is `socketpair`.
    public static func sockets(_ kind: SocketKind = .stream) throws(SystemCallError) -> DescriptorPair {
        let type = kind == .stream ? SOCK_STREAM : SOCK_SEQPACKET
        var numbers: (Int32, Int32) = (-1, -1)
        try systemCall("socketpair") {
            unsafe withUnsafeMutableBytes(of: &numbers) { bytes in
                // SAFETY: room for two numbers that lives during the call.
                unsafe socketpair(
                    AF_UNIX,
                    Int32(type.rawValue | SOCK_CLOEXEC.rawValue),
                    0,
                    bytes.baseAddress?.assumingMemoryBound(to: Int32.self)
                )
            }
        }
        return DescriptorPair(numbers)
    }

    /// A pipe, close-on-exec, blocking: first the end to read, second the end to write.
    ///
    /// The corresponding call is `pipe2`.
    public static func pipe() throws(SystemCallError) -> DescriptorPair {
        var numbers: (Int32, Int32) = (-1, -1)
        let result = unsafe withUnsafeMutableBytes(of: &numbers) { bytes in
            guard let base = bytes.baseAddress else { return -EFAULT }
            // SAFETY: room for two numbers that lives during the call.
            return unsafe clinux_pipe(base.assumingMemoryBound(to: Int32.self))
        }
        try checked("pipe2", result)
        return DescriptorPair(numbers)
    }

    /// The first end (of a pipe: the one to read); once only.
    public mutating func takeFirst() -> OwnedDescriptor {
        guard let end = first.take() else { preconditionFailure("DescriptorPair: the first end was taken before") }
        return end
    }

    /// The second end (of a pipe: the one to write); once only.
    public mutating func takeSecond() -> OwnedDescriptor {
        guard let end = second.take() else { preconditionFailure("DescriptorPair: the second end was taken before") }
        return end
    }
}
