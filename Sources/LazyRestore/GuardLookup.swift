// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging
internal import ProcessTrace

/// Tells where a process has guard pages, at the cost of one call of the kernel (PAGE_IS_GUARD, Linux 6.16).
final class GuardLookup: Sendable {
    private static let query = PageQuery(all: .guardPage, returning: .guardPage)

    private let pagemap: Pagemap?
    private let buffer = Lock(ScanBuffer(capacity: 4))

    /// Looks nothing up when the kernel cannot tell guards, or when the process is gone.
    init(pid: Int32) {
        let pagemap = try? Pagemap(pid: pid)
        let probe = AddressRange(VirtualAddress(PageSize.base), VirtualAddress(2 * PageSize.base))
        self.pagemap = (try? pagemap?.scan(probe, Self.query)) == nil ? nil : pagemap
    }

    /// The first guard pages of a range.
    func first(in range: AddressRange) -> AddressRange? {
        guard let pagemap else { return nil }
        var found: AddressRange?
        // A process that has ended, or that executes another program, has none of interest.
        buffer.withLock { buffer in
            try? pagemap.scan(range, Self.query, using: buffer) { region in
                if found == nil { found = region.range }
            }
        }
        return found
    }
}
