// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging
internal import ProcessTrace

/// A process whose soft-dirty bits are read and cleared.
protocol SoftDirtyProcess {
    /// The mappings that are tracked.
    func mappings() throws(TrackingError) -> TrackedMappings
    /// Calls `body` with the pages that a query finds, ascending; written is what is soft-dirty.
    func scan(
        _ pages: Range<UInt64>,
        _ query: PageQuery,
        _ body: (Range<UInt64>, PageCategories) -> Void
    ) throws(TrackingError)
    /// Clears all bits.
    func clear() throws(TrackingError)
    /// Runs `body` while the process is stopped.
    func stopped<Value>(_ body: () throws(TrackingError) -> Value) throws(TrackingError) -> Value
}

/// The rounds of a process whose soft-dirty bits the kernel keeps.
///
/// Reading and clearing are two steps, so the process is stopped for both, or a write between them would be lost. A mapping that was
/// made since is dirty as a whole, and so is what was moved.
struct SoftDirtyRounds<Process: SoftDirtyProcess> {
    let process: Process
    let queries = PageQueries(knowsGuards: true)
    private(set) var books = TrackerBooks()

    init(_ process: Process) {
        self.process = process
    }

    /// Stops the process, looks at it, clears the bits and lets it run on.
    mutating func round() throws(TrackingError) -> TrackerRound {
        let began = MonotonicTime.now
        var (round, current) = try process.stopped { () throws(TrackingError) -> (TrackerRound, TrackedMappings) in
            let current = try process.mappings()
            let round = try look(current, all: books.areNew)
            try process.clear()
            return (round, current)
        }
        books.enter(&round, current)
        round.scanTime = began.elapsed
        return round
    }

    /// Looks at the process, which the caller has stopped.
    func finalRound(_ mappings: TrackedMappings?) throws(TrackingError) -> TrackerRound {
        let began = MonotonicTime.now
        let current = if let mappings { mappings } else { try process.mappings() }
        var round = try look(current, all: false)
        books.complete(&round)
        round.scanTime = began.elapsed
        return round
    }

    /// Existence is asked for page by page: what was reported and is no data now is dropped.
    private func look(_ current: TrackedMappings, all: Bool) throws(TrackingError) -> TrackerRound {
        var round = TrackerRound()
        var existing = PageSet()
        for mapping in current.list {
            try process.scan(mapping.range.pageNumbers, queries.data(mapping.content)) { pages, categories in
                existing.insert(pages)
                if all || categories.contains(.written) { round.written.insert(pages) }
            }
        }
        round.dropped = books.reported
        round.dropped.subtract(existing)
        round.dropped.formUnion(books.replaced(in: current))
        return round
    }
}

/// A running process with the bits of its kernel.
struct SoftDirtyTarget: SoftDirtyProcess {
    let pid: Int32
    let scope: TrackingScope
    let timeout: Duration
    let descriptor: ProcessDescriptor
    let view: PageView

    init(_ pid: Int32, _ scope: TrackingScope, _ timeout: Duration) throws(TrackingError) {
        self.pid = pid
        self.scope = scope
        self.timeout = timeout
        descriptor = try TrackingError.translatingCall(pid, "find") { () throws(SystemCallError) in
            try ProcessDescriptor(pid: pid)
        }
        view = .entries(
            try TrackingError.translating(pid, "look at the pages of") { () throws(TraceError) in
                try PagemapReader(pid: pid)
            },
            PageCategorizer(.softDirty)
        )
    }

    func mappings() throws(TrackingError) -> TrackedMappings {
        try TrackedMappings.read(pid, scope, view, descriptor)
    }

    func scan(
        _ pages: Range<UInt64>,
        _ query: PageQuery,
        _ body: (Range<UInt64>, PageCategories) -> Void
    ) throws(TrackingError) {
        do { try view.scan(pages, query, body) } catch {
            throw TrackingError.of(error, pid: pid, process: descriptor, doing: "look at the pages of")
        }
    }

    func clear() throws(TrackingError) {
        do { try SoftDirtyBits.clear(pid) } catch {
            throw TrackingError.of(error, pid: pid, process: descriptor, doing: "clear the soft-dirty bits of")
        }
    }

    func stopped<Value>(_ body: () throws(TrackingError) -> Value) throws(TrackingError) -> Value {
        // A read(2) is over when its thread has stopped.
        if scope == .privateAnonymous { _ = try UnseenWrites.areInCalls(of: pid, descriptor) }
        let stopped: StoppedProcess
        do { stopped = try StoppedProcess.stop(pid, timeout: timeout) } catch {
            throw TrackingError.of(error, pid: pid, process: descriptor, doing: "stop")
        }
        // Should this throw, the stop is let go with its owner.
        let value = try body()
        do { try stopped.letGo() } catch {
            throw TrackingError.of(error, pid: pid, process: descriptor, doing: "let go of")
        }
        return value
    }
}
