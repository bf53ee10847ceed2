// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import Paging

/// A page-aligned piece of memory of this process in which pages and messages travel between calls of the kernel.
///
/// TLS, `process_vm_readv` and `UFFDIO_COPY` work in it in place, so a page is not copied between them. One thread uses it at a time.
@safe
public final class TransferBuffer {
    /// Bytes in the buffer; a multiple of the page size.
    public let capacity: Int
    /// The memory itself, for the targets that hand it to the kernel or to OpenSSL.
    package let base: UnsafeMutableRawPointer

    /// Maps at least `capacity` bytes of zeros.
    ///
    /// - Throws: ``SystemCallError`` when `mmap(2)` fails.
    public init(capacity: Int) throws(SystemCallError) {
        try FaultPoint.check(.bufferMade)
        let rounded = max(1, (capacity + PageSize.baseBytes - 1) / PageSize.baseBytes) * PageSize.baseBytes
        // SAFETY: an anonymous mapping at an address that the kernel chooses; nothing else refers to it.
        guard let address = unsafe mmap(nil, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            unsafe address != MAP_FAILED
        else {
            throw SystemCallError("mmap", Errno(rawValue: errno), operand: "\(rounded) bytes")
        }
        self.capacity = rounded
        unsafe self.base = address
    }

    /// Maps a piece of a ``MemoryFile``; what is written is seen by everybody who maps it.
    ///
    /// - Throws: ``SystemCallError`` when `mmap(2)` fails.
    init(mapping descriptor: Int32, at offset: Int, capacity: Int) throws(SystemCallError) {
        // SAFETY: a mapping at an address that the kernel chooses; nothing else refers to it.
        guard let address = unsafe mmap(nil, capacity, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, offset),
            unsafe address != MAP_FAILED
        else {
            throw SystemCallError("mmap", Errno(rawValue: errno), operand: "\(capacity) bytes of a memfd")
        }
        self.capacity = capacity
        unsafe self.base = address
    }

    deinit {
        // SAFETY: what mmap returned and took; nobody else frees it.
        unsafe munmap(base, capacity)
    }

    /// The memory from `offset` on, for the targets that hand it to the kernel or to OpenSSL.
    @unsafe
    package func pointer(at offset: Int, count: Int) -> UnsafeMutableRawPointer {
        precondition(
            offset >= 0 && count >= 0 && offset <= capacity - count,
            "TransferBuffer: range outside of the buffer"
        )
        return unsafe base + offset
    }

    /// Lends the bytes of a range.
    public func withBytes<Result, Failure: Error>(
        _ range: Range<Int>,
        _ body: (Span<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        // SAFETY: the range is checked by pointer(at:count:), the mapping outlives the call, the span does not escape.
        let bytes = unsafe UnsafeRawBufferPointer(
            start: pointer(at: range.lowerBound, count: range.count),
            count: range.count
        )
        return try body(unsafe Span<UInt8>(_unsafeBytes: bytes))
    }

    /// Lends the bytes of a range for writing.
    public func withMutableBytes<Result, Failure: Error>(
        _ range: Range<Int>,
        _ body: (inout MutableSpan<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        // SAFETY: as in withBytes; one thread uses the buffer at a time, so nobody else reads or writes it.
        let bytes = unsafe UnsafeMutableRawBufferPointer(
            start: pointer(at: range.lowerBound, count: range.count),
            count: range.count
        )
        var span = unsafe MutableSpan<UInt8>(_unsafeElements: bytes.assumingMemoryBound(to: UInt8.self))
        return try body(&span)
    }
}
