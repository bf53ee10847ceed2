// SPDX-License-Identifier: Apache-2.0
public import Paging

/// Pages of another address space that wait here, outside of any process, until it is known where and whether they are needed.
///
/// Blocks of 2 MiB of that space's addresses lie in the order in which they came, so that scattered pages take an entry each and
/// the size of the address space does not matter; only pages that came take memory, in a ``MemoryFile``.
///
/// One thread fills it. Once it is filled any thread may read it; ``discard(block:)`` is for whoever knows that nobody reads the block.
public final class PageStore: @unchecked Sendable {
    // SAFETY of @unchecked Sendable: one thread fills it and then gives it to others by way of a lock; from then on the tables are
    // only read.

    /// Pages of a block.
    public static let blockPages: UInt64 = 512
    private static let blockBytes = Int(blockPages) * PageSize.baseBytes
    /// Blocks of one mapping: 256 MiB of addresses.
    private static let windowBlocks = 128

    /// Most pages that are kept.
    public let limit: UInt64
    /// What is here, by number (address >> 12).
    public private(set) var pages = PageSet()
    private var file: MemoryFile
    private var windows: [TransferBuffer] = []
    /// The blocks that are here, by their number at the source (page >> 9), in the order in which they lie.
    public private(set) var blocks: [UInt64] = []
    /// Where a block lies, in blocks, by its number.
    private var places: [UInt64: Int] = [:]

    /// Room for at most `limit` pages.
    public init(limit: UInt64) throws(SystemCallError) {
        self.limit = limit
        file = try MemoryFile(name: "thaw-pages")
    }

    /// What another program has left that shared its descriptors; it keeps no more than that.
    ///
    /// - Parameters:
    ///   - descriptor: ``descriptor`` of that one.
    ///   - blocks: ``blocks`` of that one.
    ///   - pages: those that are needed; none of their blocks has been discarded.
    public init(
        adopting descriptor: consuming OwnedDescriptor,
        blocks: [UInt64],
        pages: PageSet
    ) throws(SystemCallError) {
        limit = pages.count
        file = MemoryFile(adopting: descriptor)
        self.blocks = blocks
        self.pages = pages
        for (place, block) in blocks.enumerated() {
            if place == windows.count * Self.windowBlocks {
                windows.append(try file.grow(by: Self.windowBlocks * Self.blockBytes))
            }
            places[block] = place
        }
    }

    /// The memory, for another program that has the same descriptors.
    public var descriptor: Int32 { file.descriptor }

    /// Keeps pages whose bytes are in `buffer` from `offset` on; a page that is here already is replaced.
    ///
    /// - Returns: false when there is no room for them.
    public func store(
        _ range: Range<UInt64>,
        from buffer: TransferBuffer,
        at offset: Int
    ) throws(SystemCallError) -> Bool {
        var page = range.lowerBound
        while page < range.upperBound {
            let end = min(range.upperBound, (page | (Self.blockPages - 1)) + 1)
            let fresh = UInt64(end - page) - pages.count(in: page..<end)
            guard pages.count + fresh <= limit else { return false }
            let (window, position) = try place(of: page)
            window.copy(
                from: buffer,
                at: offset + Int(page - range.lowerBound) * PageSize.baseBytes,
                to: position,
                count: Int(end - page) * PageSize.baseBytes
            )
            pages.insert(page..<end)
            page = end
        }
        return true
    }

    /// Where pages from `page` to the end of its block lie, if they came.
    public func location(of page: UInt64) -> (buffer: TransferBuffer, offset: Int)? {
        guard let place = places[page / Self.blockPages] else { return nil }
        let offset = (place % Self.windowBlocks) * Self.blockBytes + Int(page % Self.blockPages) * PageSize.baseBytes
        return (windows[place / Self.windowBlocks], offset)
    }

    /// Gives the memory of a block back.
    ///
    /// - Parameter block: a page number divided by ``blockPages``.
    public func discard(block: UInt64) {
        guard let (window, offset) = location(of: block * Self.blockPages) else { return }
        window.discard(offset..<offset + Self.blockBytes)
    }

    /// Gives all memory back: nobody reads any of it any more.
    public func discardAll() {
        for window in windows { window.discard(0..<window.capacity) }
    }

    private func place(of page: UInt64) throws(SystemCallError) -> (TransferBuffer, Int) {
        if let known = location(of: page) { return known }
        let place = places.count
        if place == windows.count * Self.windowBlocks {
            windows.append(try file.grow(by: Self.windowBlocks * Self.blockBytes))
        }
        places[page / Self.blockPages] = place
        blocks.append(page / Self.blockPages)
        guard let known = location(of: page) else { preconditionFailure("PageStore: a block has no place") }
        return known
    }
}
