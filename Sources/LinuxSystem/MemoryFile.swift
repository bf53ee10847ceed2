// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import Paging

/// Memory behind a descriptor, so that it can be mapped in pieces, grow, and be held by another process.
///
/// The corresponding call is memfd_create(2). It takes memory for the pages that were written, not for its size.
public struct MemoryFile: ~Copyable, Sendable {
    private let file: OwnedDescriptor
    /// Bytes that can be mapped.
    public private(set) var size = 0

    /// An empty file.
    ///
    /// - Parameter name: shown in `/proc/PID/maps`.
    public init(name: String) throws(SystemCallError) {
        // SAFETY: the kernel reads the string during the call.
        file = OwnedDescriptor(adopting: try checked("memfd_create", unsafe clinux_memfd_create(name)))
    }

    /// Takes over a file that somebody else has made and may have written to: it is mapped from its beginning.
    public init(adopting descriptor: consuming OwnedDescriptor) {
        file = descriptor
    }

    /// The descriptor, to lend.
    public var descriptor: Int32 { file.rawValue }

    /// Makes the file larger by `byteCount` bytes that read as zeros, and maps them.
    ///
    /// - Parameter byteCount: a multiple of the page size.
    public mutating func grow(by byteCount: Int) throws(SystemCallError) -> TransferBuffer {
        let start = size
        let end = start + byteCount
        let number = descriptor
        // One that was adopted may be larger already, and what lies there is needed.
        let length = try systemCall("lseek") { lseek(number, 0, SEEK_END) }
        if length < end { try systemCall("ftruncate") { ftruncate(number, end) } }
        size = end
        return try TransferBuffer(mapping: number, at: start, capacity: byteCount)
    }
}

extension TransferBuffer {
    /// Copies bytes from another buffer.
    public func copy(from source: TransferBuffer, at offset: Int, to position: Int, count: Int) {
        // SAFETY: pointer(at:count:) checks both ranges; the two buffers are different mappings.
        unsafe pointer(at: position, count: count).copyMemory(
            from: source.pointer(at: offset, count: count),
            byteCount: count
        )
    }

    /// Gives the memory of whole pages back; they read as zeros from then on.
    ///
    /// Only for buffers over a ``MemoryFile``; others keep theirs. The corresponding advice is MADV_REMOVE.
    public func discard(_ range: Range<Int>) {
        // SAFETY: pointer(at:count:) checks the range. That the kernel cannot do it costs memory only.
        unsafe madvise(pointer(at: range.lowerBound, count: range.count), range.count, MADV_REMOVE)
    }
}
