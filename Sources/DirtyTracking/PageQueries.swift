// SPDX-License-Identifier: Apache-2.0
internal import ProcessTrace

/// The questions of a round to PAGEMAP_SCAN.
///
/// "Data" is what is in memory or in swap, but no zero page and no guard. A page is "written" when it is not write-protected.
struct PageQueries {
    /// PAGE_IS_GUARD is known (Linux 6.16); before, a guard counts as data that cannot be read.
    let knowsGuards: Bool

    /// Exactly the mask for which the kernel has a fast path, and the only one that shows thrown-away pages on every kernel
    /// (anchors: "unpopulated PTE read clean on the general mask path").
    ///
    /// Holes match as well, so it must never protect what it finds: that would build page tables for all of them.
    ///
    /// It does not show holes of mappings that are not registered.
    static let writtenOrGone = PageQuery(all: .written, returning: .written)

    /// All of the mappings that are not registered, holes as well; the kernel skips the others without a look.
    static let unregistered = PageQuery(
        all: .writeProtectAllowed,
        inverted: .writeProtectAllowed,
        returning: .writeProtectAllowed
    )

    /// Pages with data.
    func data(_ content: MappingContent) -> PageQuery {
        query(content, adding: [])
    }

    /// Pages with data in mappings that are not registered.
    func unregisteredData(_ content: MappingContent) -> PageQuery {
        var query = query(content, adding: .writeProtectAllowed)
        query.inverted.insert(.writeProtectAllowed)
        return query
    }

    /// Pages with data that were written.
    func writtenData(_ content: MappingContent) -> PageQuery {
        query(content, adding: .written)
    }

    private func query(_ content: MappingContent, adding more: PageCategories) -> PageQuery {
        var absent: PageCategories = .zero
        if knowsGuards { absent.insert(.guardPage) }
        if content == .privateFile { absent.insert(.file) }
        return PageQuery(
            all: absent.union(more),
            anyOf: [.present, .swapped],
            inverted: absent,
            returning: .written
        )
    }
}

extension PageQuery {
    /// The same question, but what it finds is write-protected in the same step.
    ///
    /// - Parameter checking: whether a mapping that is not registered is an error (EPERM) instead of being skipped.
    func arming(checking: Bool) -> PageQuery {
        var query = self
        query.writeProtects = true
        query.requiresWriteProtection = checking
        return query
    }
}
