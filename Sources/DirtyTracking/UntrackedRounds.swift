// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging
internal import ProcessTrace

/// The rounds of a process whose writes nobody notices: every page with data counts as written, in every round.
///
/// Nothing is done to the process.
struct UntrackedRounds {
    let pid: Int32
    private let process: ProcessDescriptor
    private let looking: Looking

    init(_ pid: Int32) throws(TrackingError) {
        self.pid = pid
        process = try TrackingError.translatingCall(pid, "find") { () throws(SystemCallError) in
            try ProcessDescriptor(pid: pid)
        }
        // The strategy that also says whether the kernel can be asked for pages at all.
        looking = Looking.shortest(.writeProtectSync)
    }

    /// All pages with data.
    func round() throws(TrackingError) -> TrackerRound {
        let began = MonotonicTime.now
        let view = try view()
        let current = try TrackedMappings.read(pid, .all, view, process)
        let queries = PageQueries(knowsGuards: looking.knowsGuards || !looking.scans)
        var round = TrackerRound()
        for span in current.spans {
            do throws(TraceError) {
                try view.scan(span.range.pageNumbers, queries.data(span.content)) { pages, _ in
                    round.written.insert(pages)
                }
            } catch {
                throw TrackingError.of(error, pid: pid, process: process, doing: "look at the pages of")
            }
        }
        var books = TrackerBooks()
        books.enter(&round, current)
        round.scanTime = began.elapsed
        return round
    }

    /// Opened for each round: one that was opened before the process has executed another program shows no pages.
    private func view() throws(TrackingError) -> PageView {
        try TrackingError.translating(pid, "look at the pages of") { () throws(TraceError) in
            guard looking.scans else {
                return .entries(try PagemapReader(pid: pid), PageCategorizer(.writeProtection))
            }
            return .scan(try Pagemap(pid: pid), ScanBuffer())
        }
    }
}
