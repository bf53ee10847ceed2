// SPDX-License-Identifier: Apache-2.0
internal import Paging

/// Addresses that are free on both sides while a process is being built.
struct AddressPlan {
    /// mmap_min_addr as it is by default; lower addresses need a capability.
    static let lowest: UInt64 = 0x10000
    /// The end of user space with four levels of page tables, less the guard page.
    static let highest: UInt64 = 0x7fff_ffff_f000

    private var taken: [AddressRange]

    /// Knows what is taken.
    init(taken: [AddressRange]) {
        self.taken = taken.sorted { $0.lowerBound < $1.lowerBound }
    }

    /// Takes the lowest free range of `bytes` (a multiple of the page size); nil when there is none.
    mutating func allocate(_ bytes: UInt64) -> AddressRange? {
        var start = Self.lowest
        var index = 0
        while index < taken.count {
            let range = taken[index]
            // A page is left between, so that neighbours are not merged and a stack below may grow a little.
            if range.lowerBound.rawValue >= start, range.lowerBound.rawValue - start >= bytes + PageSize.base { break }
            start = max(
                start,
                range.upperBound.rawValue + (range.upperBound.rawValue < Self.highest ? PageSize.base : 0)
            )
            index += 1
        }
        guard start <= Self.highest, Self.highest - start >= bytes else { return nil }
        let found = AddressRange(VirtualAddress(start), VirtualAddress(start + bytes))
        taken.insert(found, at: index)
        return found
    }
}
