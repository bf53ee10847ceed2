// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Paging
internal import ProcessTrace
internal import Userfaultfd

/// The pages of a process that were written since they were write-protected, as far as its mappings are registered for asynchronous
/// write protection.
///
/// Registers nothing: somebody else holds the userfaultfd. Zero pages and guards are no written pages; what has appeared in such a
/// mapping without protection is one. A look costs what the populated memory costs (PAGEMAP_SCAN, Linux 6.7); addresses without
/// memory, and mappings that are not registered, cost nothing.
public final class WrittenPages {
    private let pid: Int32
    private let pagemap: Pagemap
    private let query: PageQuery
    private let buffer = ScanBuffer()

    /// Opens `/proc/PID/pagemap`; the address space is the one that the process has now.
    ///
    /// - Throws: ``TrackingError`` when there is no such process, or when it may not be looked at.
    public init(_ pid: Int32) throws(TrackingError) {
        self.pid = pid
        do {
            pagemap = try Pagemap(pid: pid)
        } catch {
            throw TrackingError.of(error, pid: pid, doing: "look at the memory of")
        }
        let queries = PageQueries(knowsGuards: clinux_probe_scan_categories(clinux_PAGE_IS_GUARD) == 0)
        var query = queries.writtenData(.anonymous)
        query.all.insert(.writeProtectAllowed)
        self.query = query
    }

    /// How many there are; 0 when the address space is gone.
    public func count() throws(TrackingError) -> UInt64 {
        try scan(query)
    }

    /// Write-protects all of them, so that they are written pages no more.
    ///
    /// - Returns: How many there were.
    @discardableResult
    public func forget() throws(TrackingError) -> UInt64 {
        try scan(query.arming(checking: false))
    }

    private func scan(_ query: PageQuery) throws(TrackingError) -> UInt64 {
        var pages: UInt64 = 0
        do {
            try pagemap.scan(Userfaultfd.everything, query, using: buffer) {
                pages += $0.range.byteCount / PageSize.base
            }
        } catch {
            throw TrackingError.of(error, pid: pid, doing: "look at the memory of")
        }
        return pages
    }
}
