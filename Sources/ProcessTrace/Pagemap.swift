// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
public import Paging

/// What PAGEMAP_SCAN tells of a page.
public struct PageCategories: OptionSet, Hashable, Sendable {
    /// The bits of the kernel.
    public let rawValue: UInt64

    /// Wraps bits of the kernel.
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// The VMA is registered for asynchronous write protection.
    public static let writeProtectAllowed = Self(rawValue: clinux_PAGE_IS_WPALLOWED)
    /// Not write-protected (every page without a userfaultfd is).
    public static let written = Self(rawValue: clinux_PAGE_IS_WRITTEN)
    /// A page of a file or of shared memory.
    public static let file = Self(rawValue: clinux_PAGE_IS_FILE)
    /// In memory.
    public static let present = Self(rawValue: clinux_PAGE_IS_PRESENT)
    /// In swap; markers (guard, poison, armed hole) are shown so as well.
    public static let swapped = Self(rawValue: clinux_PAGE_IS_SWAPPED)
    /// The zero page.
    public static let zero = Self(rawValue: clinux_PAGE_IS_PFNZERO)
    /// Part of a huge page.
    public static let huge = Self(rawValue: clinux_PAGE_IS_HUGE)
    /// A guard page (MADV_GUARD_INSTALL), Linux 6.15.
    public static let guardPage = Self(rawValue: clinux_PAGE_IS_GUARD)
}

/// Neighbouring pages that share their categories.
public struct PageRegion: Hashable, Sendable {
    /// The pages.
    public var range: AddressRange
    /// Those categories of the pages that were asked for.
    public var categories: PageCategories
}

/// Which pages a scan looks for and what it does with them.
public struct PageQuery: Hashable, Sendable {
    /// All of these must hold.
    public var all: PageCategories
    /// At least one of these must hold; empty means no condition.
    public var anyOf: PageCategories
    /// Categories whose sense is inverted in `all` and `anyOf`.
    public var inverted: PageCategories
    /// Categories that are told of each region.
    public var returning: PageCategories
    /// Whether the pages that match are write-protected in the same step.
    public var writeProtects: Bool
    /// Whether a VMA that is not registered for asynchronous write protection is an error (EPERM).
    public var requiresWriteProtection: Bool

    /// Makes a query.
    public init(
        all: PageCategories = [],
        anyOf: PageCategories = [],
        inverted: PageCategories = [],
        returning: PageCategories,
        writeProtects: Bool = false,
        requiresWriteProtection: Bool = false
    ) {
        self.all = all
        self.anyOf = anyOf
        self.inverted = inverted
        self.returning = returning
        self.writeProtects = writeProtects
        self.requiresWriteProtection = requiresWriteProtection
    }
}

/// Where a scan collects its regions; one thread uses it at a time.
public final class ScanBuffer {
    /// Regions in one call of the kernel; a larger vector makes sparse scans slower, not faster (kernel 6.18).
    static let capacity = 512
    fileprivate var regions: [clinux_page_region]

    /// Makes a buffer of 12 KiB, or a smaller one for scans that find little.
    ///
    /// - Parameter capacity: regions, 1 to 512.
    public init(capacity: Int = 512) {
        precondition((1...Self.capacity).contains(capacity), "ScanBuffer: capacity")
        regions = [clinux_page_region](repeating: clinux_page_region(), count: capacity)
    }
}

/// `/proc/PID/pagemap` with PAGEMAP_SCAN (Linux 6.7).
public final class Pagemap: Sendable {
    /// Whose pages.
    public let pid: Int32
    private let file: OwnedDescriptor

    /// Opens `/proc/PID/pagemap`.
    public init(pid: Int32) throws(TraceError) {
        self.pid = pid
        file = try ProcFile.open("/proc/\(pid)/pagemap", O_RDONLY)
    }

    /// Calls `body` with every region of `range` that the query finds, ascending; neighbouring regions may share categories.
    ///
    /// Nothing is allocated. The corresponding ioctl is `PAGEMAP_SCAN`, ioctl_pagemap_scan(2).
    public func scan(
        _ range: AddressRange,
        _ query: PageQuery,
        using buffer: ScanBuffer,
        _ body: (PageRegion) -> Void
    ) throws(TraceError) {
        var request = clinux_pagemap_scan()
        request.flags =
            (query.writeProtects ? clinux_PM_SCAN_WP_MATCHING : 0)
            | (query.requiresWriteProtection ? clinux_PM_SCAN_CHECK_WPASYNC : 0)
        request.start = range.lowerBound.rawValue
        request.end = range.upperBound.rawValue
        request.category_inverted = query.inverted.rawValue
        request.category_mask = query.all.rawValue
        request.category_anyof_mask = query.anyOf.rawValue
        request.return_mask = query.returning.rawValue
        while request.start < request.end {
            // SAFETY: the kernel fills at most `capacity` regions of the array's own storage during the closure.
            let result = unsafe buffer.regions.withUnsafeMutableBufferPointer {
                unsafe clinux_pagemap_scan(file.rawValue, &request, $0.baseAddress, $0.count)
            }
            try TraceError.check("PAGEMAP_SCAN", result, "Cannot scan the pages \(range) of process \(pid)")
            for region in buffer.regions[..<Int(result)] {
                body(
                    PageRegion(
                        range: AddressRange(VirtualAddress(region.start), VirtualAddress(region.end)),
                        categories: PageCategories(rawValue: region.categories)
                    )
                )
            }
            guard request.walk_end > request.start else { return }
            request.start = request.walk_end
        }
    }

    /// The regions of `range` that the query finds.
    public func scan(_ range: AddressRange, _ query: PageQuery) throws(TraceError) -> [PageRegion] {
        var regions: [PageRegion] = []
        try scan(range, query, using: ScanBuffer()) { regions.append($0) }
        return regions
    }
}
