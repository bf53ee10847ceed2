// SPDX-License-Identifier: Apache-2.0
internal import LazyPages
internal import LinuxSystem
internal import Paging
internal import Userfaultfd

// Pages that the source owes and does not bring: whoever touches one gets SIGBUS, and EFAULT inside of a system call.
//
// Poison is a mark in the page table that an install replaces (ioctl_userfaultfd(2), UFFDIO_POISON; tried on Linux 6.18): when the source is
// back its pages take the place of the marks, and a process that has survived its signals goes on with right bytes.
extension MemoryState {
    /// Pages in one call.
    private static let pagesPerPoisoning: UInt64 = 512

    /// Marks every page that is owed and not here.
    ///
    /// - Returns: how many were marked; nil when it is not known yet which pages exist, or when the kernel cannot do it.
    mutating func poisonOwed() throws(SystemCallError) -> UInt64? {
        _ = try service()
        guard books.isMapComplete else { return nil }
        var count: UInt64 = 0
        // Who misses shared memory waits: what stood in for its pages would stay when they come.
        for space in books.livingSpaces where space != .objects {
            do throws(SystemCallError) {
                count += try poisonOwed(of: space)
            } catch {
                // Before Linux 6.6, where nothing has been marked then.
                guard count == 0, error.errno == .invalid else { throw error }
                return nil
            }
        }
        return count
    }

    private mutating func poisonOwed(of space: SpaceIdentifier) throws(SystemCallError) -> UInt64 {
        var count: UInt64 = 0
        var position: UInt64 = 0
        var limit = Self.pagesPerPoisoning
        var tries = 0
        while let owed = books.nextOwedRun(of: space, from: position, limit: limit), let handle = handle(of: space) {
            isPoisoned = true
            let outcome = try handle.uffd.poison(owed.range)
            if outcome == .vanished, owed.source.count > 1 {
                // It crosses the border of two mappings.
                limit = 1
                continue
            }
            var done = UInt64(owed.source.count)
            switch outcome {
            case .installed: break
            case .partial(let pages): done = UInt64(pages)
            case .alreadyPresent: done = 1
            case .vanished: done = 0
            case .interrupted:
                tries += 1
                guard tries < Self.immediateRetries else { return count }
                Processor.yield()
                _ = try service()
                continue
            case .targetGone:
                gone(handle)
                return count
            }
            if outcome != .alreadyPresent { count += done }
            let end = VirtualAddress(owed.range.lowerBound.rawValue + done << PageSize.shift)
            ended(space, AddressRange(owed.range.lowerBound, end))
            position = owed.source.lowerBound + max(1, done)
            limit = Self.pagesPerPoisoning
        }
        return count
    }

    /// Installs pages of zeros that the source has.
    func installZeros(_ range: AddressRange, in space: AddressSpaceHandle) throws(SystemCallError) -> CopyOutcome {
        guard isPoisoned else { return try space.uffd.zero(range) }
        let pages = Int(range.byteCount / PageSize.base)
        let zeros = try TransferBuffer(capacity: pages * PageSize.baseBytes)
        return try space.uffd.copy(from: zeros, at: 0, to: range.lowerBound, pages: pages, modes: space.copyModes)
    }
}
