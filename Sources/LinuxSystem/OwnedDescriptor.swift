// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A file descriptor that belongs to exactly one value and is closed with it.
public struct OwnedDescriptor: ~Copyable, Sendable {
    /// The number, to lend to a call that does not close it.
    public let rawValue: Int32

    /// Takes over a descriptor that nobody else closes.
    public init(adopting rawValue: Int32) {
        self.rawValue = rawValue
    }

    deinit {
        Glibc.close(rawValue)
    }

    /// Gives the number away; the receiver closes it.
    public consuming func release() -> Int32 {
        let number = rawValue
        discard self
        return number
    }

    /// Another descriptor (close-on-exec) for the same open file description.
    ///
    /// The corresponding call is `fcntl(F_DUPFD_CLOEXEC)`.
    public func duplicate() throws(SystemCallError) -> OwnedDescriptor {
        let number = rawValue
        return OwnedDescriptor(
            adopting: try systemCall("fcntl", operand: "F_DUPFD_CLOEXEC of \(number)") {
                fcntl(number, F_DUPFD_CLOEXEC, 3)
            }
        )
    }
}

/// A descriptor that several hold; it is closed with the last of them.
public final class HeldDescriptor: Sendable {
    private let owned: OwnedDescriptor

    /// Takes over a descriptor.
    public init(_ owned: consuming OwnedDescriptor) {
        self.owned = owned
    }

    /// The number, to lend to a call that does not close it.
    public var rawValue: Int32 { owned.rawValue }
}
