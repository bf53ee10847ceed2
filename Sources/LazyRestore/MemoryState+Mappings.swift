// SPDX-License-Identifier: Apache-2.0
internal import LazyPages
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import Userfaultfd

// What only the mappings of a space tell.
extension MemoryState {
    /// Enters which parts of a range are not registered any more.
    ///
    /// A space that cannot be found in `/proc` keeps its books: what is not registered does not fault, and installs there are given up.
    mutating func confirmUnmap(_ range: AddressRange, of space: AddressSpaceHandle) {
        guard let thread = threads[space.identifier], let query = try? MappingQuery(pid: thread) else { return }
        var position = range.lowerBound
        while position < range.upperBound {
            switch query.mapping(from: position) {
            case .unknown: return confirmUnmapSlowly(range, of: space, thread)
            case .none:
                return unmapConfirmed(space.identifier, AddressRange(position, range.upperBound))
            case .mapping(let mapping):
                let start = max(position, min(mapping.lowerBound, range.upperBound))
                let end = min(mapping.upperBound, range.upperBound)
                if position < start { unmapConfirmed(space.identifier, AddressRange(position, start)) }
                // What the kernel cannot tell stays owed: an install finds out.
                if start < end, space.uffd.isRegistered(start) == false {
                    unmapConfirmed(space.identifier, AddressRange(start, end))
                }
                position = end > start ? end : start
            }
        }
    }

    mutating func unmapConfirmed(_ space: SpaceIdentifier, _ range: AddressRange) {
        books.unmapConfirmed(space, range)
        journal?.note(.unmapConfirmed(space, range))
    }

    /// By VmFlags, for kernels before Linux 6.11: takes time in the number of all mappings.
    private mutating func confirmUnmapSlowly(_ range: AddressRange, of space: AddressSpaceHandle, _ thread: Int32) {
        guard let maps = try? ProcessMaps.readDetailed(thread) else { return }
        var position = range.lowerBound
        for entry in maps where entry.details?.has("um") == true {
            guard let part = entry.range.intersection(range) else { continue }
            if position < part.lowerBound {
                unmapConfirmed(space.identifier, AddressRange(position, part.lowerBound))
            }
            position = max(position, part.upperBound)
        }
        if position < range.upperBound {
            unmapConfirmed(space.identifier, AddressRange(position, range.upperBound))
        }
    }

    /// The first guard pages (MADV_GUARD_INSTALL) of a range; nil when there are none, or when nobody can tell.
    ///
    /// The application may have made them since it runs, which no event tells, and UFFDIO_COPY would overwrite them.
    mutating func guardRange(in range: AddressRange, of space: AddressSpaceHandle) -> AddressRange? {
        if let lookup = guardLookups[space.identifier] { return lookup.first(in: range) }
        // A child can be found once a thread of it has waited for a page.
        guard let thread = threads[space.identifier] else { return nil }
        let lookup = GuardLookup(pid: thread)
        guardLookups[space.identifier] = lookup
        return lookup.first(in: range)
    }

    /// Leaves guard pages alone: their threads get SIGSEGV, as they would everywhere.
    ///
    /// - Returns: How many pages before them may be installed in the next step.
    mutating func stopBefore(
        _ guarded: AddressRange,
        _ install: Install,
        _ space: AddressSpaceHandle
    ) throws(SystemCallError) -> Int {
        let pages = guarded.lowerBound.pageNumber - install.address.pageNumber
        guard pages == 0 else { return Int(pages) }
        let page = AddressRange(install.address, VirtualAddress(install.address.rawValue + PageSize.base))
        installed(install, .alreadyPresent)
        try space.uffd.wake(page)
        ended(install.space, page)
        return install.count
    }
}
