// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
public import LinuxSystem
internal import Paging

/// Shared objects of a restored process, mapped in this program to put pages into them.
///
/// An install into the mapping of the process itself is refused as long as an event of its address space has not been read. What is put
/// into the object here is in the page cache at once, all of it or nothing, unless a page is there already; the process finds it when it
/// touches it, and who waits for it has to be woken.
///
/// Used under a lock.
@safe
public final class ObjectWindows: Sendable {
    private struct Window {
        let file: HeldDescriptor
        let start: UInt64
        let byteCount: UInt64
    }

    private let windows: [Window]
    /// Of this program, so that nothing here ever reads from it.
    private let uffd: Userfaultfd

    /// Maps objects.
    ///
    /// - Parameter files: each open for reading and writing.
    public init(of files: [HeldDescriptor]) throws(SystemCallError) {
        let flags = O_CLOEXEC | O_NONBLOCK | clinux_UFFD_USER_MODE_ONLY
        let made = OwnedDescriptor(adopting: try checked("userfaultfd", clinux_userfaultfd(flags)))
        uffd = try Userfaultfd.adopt(made, features: .missingShmem)
        var windows: [Window] = []
        do throws(SystemCallError) {
            for file in files {
                let window = try Self.map(file)
                windows.append(window)
                let range = AddressRange(VirtualAddress(window.start), VirtualAddress(window.start + window.byteCount))
                try uffd.register(range, modes: .missing)
            }
        } catch {
            for window in windows { Self.unmap(window) }
            throw error
        }
        self.windows = windows
    }

    deinit {
        for window in windows { Self.unmap(window) }
    }

    private static func map(_ file: HeldDescriptor) throws(SystemCallError) -> Window {
        let size = Int(try FileStatus(descriptor: file.rawValue).size)
        // SAFETY: a mapping at an address that the kernel chooses; nobody gets a pointer to it but the kernel.
        let address = unsafe mmap(
            nil,
            size,
            PROT_READ | PROT_WRITE,
            MAP_SHARED | MAP_NORESERVE,
            file.rawValue,
            0
        )
        guard unsafe address != MAP_FAILED else {
            throw SystemCallError("mmap", Errno(rawValue: errno), operand: "\(size) bytes of shared memory")
        }
        // Programs that this one forks must not hold it.
        // SAFETY: the mapping that was just made.
        unsafe madvise(address, size, MADV_DONTFORK)
        return Window(file: file, start: UInt64(UInt(bitPattern: address)), byteCount: UInt64(size))
    }

    private static func unmap(_ window: Window) {
        // SAFETY: what mmap returned and took; nobody else frees it.
        unsafe munmap(UnsafeMutableRawPointer(bitPattern: UInt(window.start)), Int(window.byteCount))
    }

    /// How many objects there are.
    public var count: Int { windows.count }

    /// The descriptor of an object, to lend.
    public func descriptor(of object: Int) -> Int32 { windows[object].file.rawValue }

    /// Bytes of an object.
    public func byteCount(of object: Int) -> UInt64 { windows[object].byteCount }

    /// When something was last taken out of an object, or written to it but by a mapping, in nanoseconds.
    public func modified(_ object: Int) throws(SystemCallError) -> Int64 {
        try FileStatus(descriptor: windows[object].file.rawValue).modified
    }

    /// Whether an object holds the page at a position.
    public func holds(_ position: UInt64, of object: Int) throws(SystemCallError) -> Bool {
        try OpenFileQuestions.firstData(in: windows[object].file.rawValue, from: position) == position
    }

    /// Whether an object holds no page.
    public func isEmpty(_ object: Int) throws(SystemCallError) -> Bool {
        try OpenFileQuestions.firstData(in: windows[object].file.rawValue, from: 0) == nil
    }

    /// Puts pages into an object where it has none.
    public func copy(
        from buffer: TransferBuffer,
        at offset: Int,
        to position: UInt64,
        of object: Int,
        pages: Int
    ) throws(SystemCallError) -> CopyOutcome {
        try uffd.copy(from: buffer, at: offset, to: address(of: position, in: object, pages), pages: pages)
    }

    /// Puts pages of zeros into an object where it has none.
    public func zero(_ position: UInt64, of object: Int, pages: Int) throws(SystemCallError) -> CopyOutcome {
        let start = address(of: position, in: object, pages)
        return try uffd.zero(AddressRange(start, VirtualAddress(start.rawValue + UInt64(pages) * PageSize.base)))
    }

    /// Takes pages out of the page tables of this program, where they count as its memory; they stay in the object.
    public func forget(_ range: Range<UInt64>, of object: Int) {
        let window = windows[object]
        let kept = range.clamped(to: 0..<window.byteCount)
        guard !kept.isEmpty else { return }
        // SAFETY: a part of the mapping; of a shared one only page table entries go.
        unsafe madvise(
            UnsafeMutableRawPointer(bitPattern: UInt(window.start + kept.lowerBound)),
            kept.count,
            MADV_DONTNEED
        )
    }

    private func address(of position: UInt64, in object: Int, _ pages: Int) -> VirtualAddress {
        let window = windows[object]
        precondition(
            position <= window.byteCount && UInt64(pages) * PageSize.base <= window.byteCount - position,
            "ObjectWindows: outside of the object"
        )
        return VirtualAddress(window.start + position)
    }
}
