// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Paging
internal import ProcessTrace

/// Where pages of a process are looked up.
enum PageView {
    /// By PAGEMAP_SCAN, which walks the page tables that there are.
    case scan(Pagemap, ScanBuffer)
    /// By reading an entry for each page, there or not.
    case entries(PagemapReader, PageCategorizer)

    /// Pages whose entries are read at most: 512 MiB, for 256 GiB of addresses.
    static let entryLimit: UInt64 = 256 << 18

    /// Whether addresses where nothing is mapped cost nothing.
    var skipsGaps: Bool {
        switch self {
        case .scan: true
        case .entries: false
        }
    }

    /// Refuses mappings that cannot be looked up in a sensible time.
    func accept(_ mappings: TrackedMappings, _ pid: Int32) throws(TrackingError) {
        guard case .entries = self else { return }
        let pages = mappings.list.reduce(0) { $0 + $1.range.byteCount / PageSize.base }
        guard pages > Self.entryLimit else { return }
        throw TrackingError(
            .unavailable,
            "process \(pid) has \(pages >> 18) GiB of mappings, and without PAGEMAP_SCAN an entry of each page must be read: "
                + "boot Linux 6.7 or newer and use wp-async"
        )
    }

    /// Calls `body` with the pages that a query finds, ascending.
    func scan(
        _ pages: Range<UInt64>,
        _ query: PageQuery,
        _ body: (Range<UInt64>, PageCategories) -> Void
    ) throws(TraceError) {
        guard !pages.isEmpty else { return }
        switch self {
        case .scan(let pagemap, let buffer):
            try pagemap.scan(AddressRange(pageNumbers: pages), query, using: buffer) { region in
                body(region.range.pageNumbers, region.categories)
            }
        case .entries(let reader, let categorizer):
            precondition(!query.writeProtects, "PageView: only PAGEMAP_SCAN arms what it finds")
            try reader.forEachEntry(of: pages) { page, entry in
                let categories = categorizer.categories(of: entry)
                if query.finds(categories) { body(page..<page + 1, categories.intersection(query.returning)) }
            }
        }
    }
}

/// Says of an entry of `/proc/PID/pagemap` what PAGEMAP_SCAN would say.
struct PageCategorizer: Sendable {
    /// What makes a page a written one.
    enum Mark: Sendable {
        /// It is not write-protected by a userfaultfd.
        case writeProtection
        /// It is soft-dirty.
        case softDirty
    }

    let mark: Mark
    /// The frame of the zero page; 0 when this program may not see frames: zero pages count as data then.
    let zeroFrame: UInt64

    init(_ mark: Mark, zeroFrame: UInt64 = clinux_zero_page_frame()) {
        self.mark = mark
        self.zeroFrame = zeroFrame
    }

    func categories(of entry: PagemapEntry) -> PageCategories {
        var categories: PageCategories = []
        if entry.isPresent { categories.insert(.present) }
        if entry.isSwapped { categories.insert(.swapped) }
        if entry.isFile { categories.insert(.file) }
        if entry.isGuard { categories.insert(.guardPage) }
        if zeroFrame != 0, entry.frame == zeroFrame { categories.insert(.zero) }
        let isWritten =
            switch mark {
            case .writeProtection: !entry.isWriteProtected
            case .softDirty: entry.isSoftDirty
            }
        if isWritten { categories.insert(.written) }
        return categories
    }
}

extension PageQuery {
    /// Whether a page with these categories is looked for.
    func finds(_ categories: PageCategories) -> Bool {
        let seen = categories.symmetricDifference(inverted)
        return seen.isSuperset(of: all) && (anyOf.isEmpty || !seen.isDisjoint(with: anyOf))
    }
}
