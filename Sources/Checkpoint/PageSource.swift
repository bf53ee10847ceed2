// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem
public import Paging
internal import ProcessTrace

/// The memory of a frozen process, for the threads that serve it.
///
/// Reading never populates a page of the process: the pagemap is asked first.
public struct PageSource: Sendable {
    /// The most pages of one read.
    public static let maximumPages = 64

    /// The process, as this program sees it.
    public let pid: Int32
    /// The VMAs whose pages arrive lazily, ascending.
    public let lazyRanges: [AddressRange]

    /// A reader for one thread.
    ///
    /// - Throws: ``CheckpointError`` when the process is gone.
    public func makeReader() throws(CheckpointError) -> PageReader {
        throw CheckpointError(.unavailable, "not there yet")
    }
}

/// Reads pages of a frozen process on one thread; allocates nothing per read.
public final class PageReader {
    private init() {}

    /// Reads up to ``PageSource/maximumPages`` pages; page `n` lands at `offset + n * 4096`.
    ///
    /// A page that never existed, is a hole or a guard, or holds only zeros costs no read and leaves its place in the buffer as it was.
    ///
    /// - Parameters:
    ///   - address: of the first page, page-aligned.
    ///   - count: pages, 1 to 64.
    ///   - buffer: receives the bytes.
    ///   - offset: bytes into `buffer`.
    /// - Returns: one bit a page, bit 0 the first: set when the page holds data, clear when it reads as zeros.
    public func read(
        _ address: VirtualAddress,
        count: Int,
        into buffer: TransferBuffer,
        at offset: Int
    ) throws(CheckpointError) -> UInt64 {
        throw CheckpointError(.unavailable, "not there yet")
    }

    /// Passes every run of lazy pages that exist, ascending: the pages that the destination is owed.
    ///
    /// Pages that went ahead as eager ones are left out, and so are holes, zero pages and guards.
    public func existingPages(_ body: (AddressRange) -> Void) throws(CheckpointError) {
        throw CheckpointError(.unavailable, "not there yet")
    }

    /// Passes every run of guard pages (MADV_GUARD_INSTALL) in lazy ranges, ascending; nothing may be installed there.
    public func guardPages(_ body: (AddressRange) -> Void) throws(CheckpointError) {
        throw CheckpointError(.unavailable, "not there yet")
    }
}
