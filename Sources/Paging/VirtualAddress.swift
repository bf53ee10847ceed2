// SPDX-License-Identifier: Apache-2.0

/// An address in the process that is moved; never a pointer of this one.
public struct VirtualAddress: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The address in bytes.
    public var rawValue: UInt64

    /// Wraps an address in bytes.
    @inlinable
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// Wraps an address in bytes.
    @inlinable
    public init(_ rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// Orders addresses as unsigned numbers.
    @inlinable
    public static func < (left: Self, right: Self) -> Bool {
        left.rawValue < right.rawValue
    }

    /// The address in hexadecimal with `0x`.
    public var description: String {
        "0x" + String(rawValue, radix: 16)
    }
}
