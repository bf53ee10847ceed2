// SPDX-License-Identifier: Apache-2.0

/// A half-open range of addresses in the process that is moved.
public struct AddressRange: Hashable, Sendable, CustomStringConvertible {
    /// The first address.
    public var lowerBound: VirtualAddress
    /// The address behind the last one; never below ``lowerBound``.
    public var upperBound: VirtualAddress

    /// Makes a range; a range that would end before it begins is empty.
    @inlinable
    public init(_ lowerBound: VirtualAddress, _ upperBound: VirtualAddress) {
        self.lowerBound = lowerBound
        self.upperBound = max(lowerBound, upperBound)
    }

    /// Length in bytes.
    @inlinable
    public var byteCount: UInt64 {
        upperBound.rawValue - lowerBound.rawValue
    }

    /// Whether the range holds no address.
    @inlinable
    public var isEmpty: Bool {
        lowerBound == upperBound
    }

    /// Whether `address` lies in the range.
    @inlinable
    public func contains(_ address: VirtualAddress) -> Bool {
        lowerBound <= address && address < upperBound
    }

    /// Whether all of `other` lies in the range.
    @inlinable
    public func contains(_ other: Self) -> Bool {
        lowerBound <= other.lowerBound && other.upperBound <= upperBound
    }

    /// What both ranges share, or nil when that is nothing.
    @inlinable
    public func intersection(_ other: Self) -> Self? {
        let lower = max(lowerBound, other.lowerBound)
        let upper = min(upperBound, other.upperBound)
        return lower < upper ? Self(lower, upper) : nil
    }

    /// As in `/proc/PID/maps`: `7f0000000000-7f0000001000`.
    public var description: String {
        String(lowerBound.rawValue, radix: 16) + "-" + String(upperBound.rawValue, radix: 16)
    }
}
