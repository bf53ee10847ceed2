// SPDX-License-Identifier: Apache-2.0
internal import LazyPages
internal import LinuxSystem
internal import PageWire
internal import Paging
internal import Userfaultfd

/// Whether the stream brings what threads wait for instead of asking.
struct StreamWatch {
    /// How long it may bring nothing.
    ///
    /// A stream can stand still while everything else goes on; then threads ask, as for any other page.
    static let patience = Duration.milliseconds(20)

    /// It has brought nothing for too long, and nothing since.
    var isSilent = false
    /// When it has brought something, or when the first page was waited for since.
    var lastHeard = MonotonicTime.now
}

// Pages that were asked for ahead and that the source has sent by the stream already.
extension MemoryState {
    /// The source says that these come by the stream.
    mutating func sentByStream(_ run: PageRun) throws(SystemCallError) {
        if !books.awaitsStream { stream.lastHeard = .now }
        if let pages = books.sentByStream(run.pageNumbers) { try wake(pages) }
        if stream.isSilent { try breakPromises() }
    }

    /// The stream has brought something.
    mutating func streamArrived() {
        stream.isSilent = false
        stream.lastHeard = .now
    }

    /// Lets threads ask for themselves that have waited for the stream for too long.
    mutating func lookAtStream() throws(SystemCallError) {
        guard books.awaitsStream, stream.lastHeard.elapsed > StreamWatch.patience else { return }
        stream.isSilent = true
        try breakPromises()
    }

    private mutating func breakPromises() throws(SystemCallError) {
        while let pages = books.nextBrokenPromise() { try wake(pages) }
    }

    /// Wakes whoever waits for pages of the source, wherever they are mapped.
    private mutating func wake(_ pages: Range<UInt64>) throws(SystemCallError) {
        for space in books.livingSpaces {
            var rest = pages
            while let place = books.place(of: rest, in: space) {
                if space == .objects {
                    try wakeObjectPages(place.range.pageNumbers)
                } else {
                    try handle(of: space)?.uffd.wake(place.range)
                }
                rest = place.rest
            }
        }
    }
}
