// SPDX-License-Identifier: Apache-2.0

/// Consecutive pages.
public struct PageRun: Hashable, Sendable, CustomStringConvertible {
    /// The first page; page-aligned.
    public var address: VirtualAddress
    /// Number of pages of 4 KiB.
    public var count: UInt64

    /// A run of `count` pages.
    @inlinable
    public init(address: VirtualAddress, count: UInt64) {
        self.address = address
        self.count = count
    }

    /// The pages that `range` touches.
    @inlinable
    public init(_ range: AddressRange) {
        let numbers = range.pageNumbers
        self.init(address: VirtualAddress(numbers.lowerBound << PageSize.shift), count: UInt64(numbers.count))
    }

    /// The pages with these numbers (address >> 12).
    @inlinable
    public init(pageNumbers: Range<UInt64>) {
        self.init(address: VirtualAddress(pageNumbers.lowerBound << PageSize.shift), count: UInt64(pageNumbers.count))
    }

    /// The numbers of the pages; the run must end inside of the address space.
    @inlinable
    public var pageNumbers: Range<UInt64> {
        address.pageNumber..<address.pageNumber + count
    }

    /// The addresses; the run must end inside of the address space.
    @inlinable
    public var range: AddressRange {
        AddressRange(address, VirtualAddress(address.rawValue + count << PageSize.shift))
    }

    /// As `0x7f0000000000+3`.
    public var description: String {
        "\(address)+\(count)"
    }
}

extension PageSize {
    /// Bits of an address below its page number.
    public static let shift: UInt64 = 12
}

extension VirtualAddress {
    /// The number of the page that holds the address (address >> 12).
    @inlinable
    public var pageNumber: UInt64 {
        rawValue >> PageSize.shift
    }

    /// The first address of the page that holds the address.
    @inlinable
    public var pageStart: VirtualAddress {
        VirtualAddress(rawValue & ~(PageSize.base - 1))
    }

    /// The first address of page `number`.
    @inlinable
    public init(pageNumber number: UInt64) {
        self.init(number << PageSize.shift)
    }
}

extension AddressRange {
    /// The numbers of the pages that the range touches.
    @inlinable
    public var pageNumbers: Range<UInt64> {
        guard !isEmpty else { return lowerBound.pageNumber..<lowerBound.pageNumber }
        return lowerBound.pageNumber..<(upperBound.rawValue - 1) >> PageSize.shift + 1
    }

    /// The addresses of the pages with these numbers.
    @inlinable
    public init(pageNumbers: Range<UInt64>) {
        self.init(
            VirtualAddress(pageNumber: pageNumbers.lowerBound),
            VirtualAddress(pageNumber: pageNumbers.upperBound)
        )
    }
}
