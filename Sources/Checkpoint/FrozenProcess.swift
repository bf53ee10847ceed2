// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
public import Paging
public import ProcessImage
internal import ProcessTrace

/// A process whose threads are all stopped and that has been described.
///
/// It belongs to the thread that froze it (ptrace(2) knows only that thread as the tracer) and ends exactly once, by ``thaw()``,
/// ``kill()``, ``leaveStopped()`` or ``continueAsClone()``. A value that is dropped without an end thaws the process, or leaves it
/// stopped once the grant is committed.
public final class FrozenProcess {
    /// Everything but the contents of the lazy pages.
    public let description: ProcessDescription
    /// Reads the pages, on any thread.
    public let pageSource: PageSource
    /// Guard pages (MADV_GUARD_INSTALL) in lazy memory, ascending: all but those that were installed in the few milliseconds before the
    /// freeze in memory that was mapped already, which ``PageReader/survey(existing:guards:)`` finds.
    public let guards: [AddressRange]
    /// As ``Examination/usesDirectIO``, under the freeze.
    public let usesDirectIO: Bool
    /// CLOCK_MONOTONIC, in nanoseconds, when the first thread was told to stop.
    public let freezeBegan: UInt64
    /// CLOCK_MONOTONIC, in nanoseconds, when the description was complete.
    public let describedAt: UInt64

    /// What the process may still become.
    private enum State {
        case frozen
        case granted
        case ended
    }

    private var state = State.frozen
    private let stopped: StoppedProcess
    private let process: ProcessDescriptor
    private var eagerPieces: ArraySlice<EagerPlan.Piece>

    private init(
        _ describer: ProcessDescriber,
        _ plan: EagerPlan,
        _ guards: [AddressRange],
        _ pagemap: Pagemap,
        _ objectRanges: [ObjectRange],
        _ process: ProcessDescriptor
    ) {
        stopped = describer.process
        usesDirectIO = describer.survey.usesDirectIO
        freezeBegan = stopped.began.nanoseconds
        let now = MonotonicTime.now.nanoseconds
        var description = describer.description
        description.machine.describingTime = now > freezeBegan ? now - freezeBegan : 0
        self.description = description
        pageSource = PageSource(
            stopped.memory,
            pagemap,
            lazyRanges: describer.lazyRanges,
            objectRanges: objectRanges,
            eagerPages: plan.lazyPages
        )
        self.guards = guards
        describedAt = now
        self.process = process
        eagerPieces = plan.pieces[...]
    }

    deinit {
        // Whoever dropped the value has no use for an error, and the kernel lets go of threads whose tracer ends.
        switch state {
        case .frozen: try? thaw()
        case .granted: try? leaveStopped()
        case .ended: break
        }
    }

    /// Looks at a process again, stops all its threads and describes it.
    ///
    /// - Parameters:
    ///   - examination: what was seen before.
    ///   - timeout: how long stopping all threads may take; the process is let go when it passes.
    ///   - sharedMemoryAhead: the contents of all shared objects go ahead; none of them is lazy.
    /// - Returns: the process, stopped.
    /// - Throws: ``CheckpointError``; when the process has something new that cannot be carried it is refused. The process runs on.
    public static func freeze(
        _ examination: Examination,
        timeout: Duration,
        sharedMemoryAhead: Bool = false
    ) throws(CheckpointError) -> FrozenProcess {
        var examination = examination
        try examination.refresh()
        let pid = examination.pid
        let (cache, guards) = (examination.cache, examination.guards)
        var attempt = 1
        while true {
            do {
                return try CheckpointError.translating(pid, "freeze") {
                    try freeze(pid, cache, timeout, guards: guards, sharedMemoryAhead: sharedMemoryAhead)
                }
            } catch {
                // A thread was met in the moment in which its call cannot be told; it is elsewhere a moment later.
                let isMomentary = error.findings.allSatisfy { $0.kind == .uninterruptibleCall }
                guard error.code == .refused, isMomentary, attempt < attempts else { throw error }
                attempt += 1
            }
        }
    }

    /// How often a process is stopped and let go because of what is otherwise a moment later.
    private static let attempts = 5

    /// Stops and describes a process that was looked at a moment ago.
    static func freeze(
        _ pid: Int32,
        _ cache: ExaminationCache,
        _ timeout: Duration,
        guards: GuardSearch = GuardSearch(),
        sharedMemoryAhead: Bool = false
    ) throws -> FrozenProcess {
        let process = try ProcessDescriptor(pid: pid)
        let stopped = try StoppedProcess.stop(pid, timeout: timeout)
        do {
            let describer = try ProcessDescriber(stopped, cache: cache)
            try describer.describe()
            let objectRanges = sharedMemoryAhead ? [] : try describer.chooseLazyObjects()
            let plan = try describer.planEagerPages()
            let pagemap = try Pagemap(pid: pid)
            let guards = try guards.confirm(in: describer.lazyRanges, pagemap)
            let frozen = FrozenProcess(describer, plan, guards, pagemap, objectRanges, process)
            stopped.leaveCPU()
            return frozen
        } catch {
            // The first error tells more.
            try? stopped.letGo()
            throw error
        }
    }

    /// The next pages that the destination must have before the process runs there; nil behind the last.
    ///
    /// Each at most ``EagerPages/maximumBytes``. Asked for once through, in order.
    ///
    /// - Returns: pages of the process or bytes of a shared object.
    /// - Throws: ``CheckpointError`` when the process is gone.
    public func nextEagerPages() throws(CheckpointError) -> EagerPages? {
        guard let piece = eagerPieces.popFirst() else { return nil }
        return try CheckpointError.translating(pageSource.pid, "read the memory of") {
            var pages = EagerPages()
            switch piece {
            case .memory(let range):
                pages.address = range.lowerBound.rawValue
                pages.bytes = try stopped.memory.read(range.lowerBound, count: Int(range.byteCount))
            case .object(let index, let access, let range):
                pages.target = .sharedObject
                pages.object = index
                pages.address = range.lowerBound
                let file = try FileReading.open(access)
                pages.bytes = try FileReading.read(file.rawValue, at: range.lowerBound, count: range.count)
            }
            return pages
        }
    }

    // MARK: Ends

    /// Makes it impossible that the process runs again by itself: to be called before the grant is sent.
    ///
    /// A SIGSTOP is queued, which the kernel takes before any thread returns to user mode; so the process stays stopped even if
    /// this program dies.
    ///
    /// - Throws: ``CheckpointError`` when the process is gone; nothing is committed then.
    public func commitGranted() throws(CheckpointError) {
        precondition(state == .frozen, "FrozenProcess: granted twice, or after its end")
        try CheckpointError.translating(pageSource.pid, "stop") {
            // A process that a signal had stopped goes back to that by itself.
            if !description.signals.stopped { try process.send(.stop) }
        }
        state = .granted
    }

    /// Lets the process go on as if nothing had happened.
    ///
    /// - Throws: ``CheckpointError`` when the process is gone.
    public func thaw() throws(CheckpointError) {
        precondition(state == .frozen, "FrozenProcess: thawed after the grant, or after its end")
        state = .ended
        try letGo(runsOn: true)
    }

    /// Kills the process and waits until it is gone.
    ///
    /// - Throws: ``CheckpointError`` when it does not end.
    public func kill() throws(CheckpointError) {
        precondition(state != .ended, "FrozenProcess: killed after its end")
        state = .ended
        try CheckpointError.translating(pageSource.pid, "kill") {
            try stopped.group.kill(deadline: .after(Self.patience))
        }
    }

    /// Lets go of the process and leaves it stopped (state T), for `kill -CONT`.
    ///
    /// - Throws: ``CheckpointError`` when the process is gone.
    public func leaveStopped() throws(CheckpointError) {
        if state == .frozen { try commitGranted() }
        precondition(state == .granted, "FrozenProcess: left stopped after its end")
        state = .ended
        try letGo(runsOn: false)
    }

    /// Lets the process go on although its copy runs: the two are clones from now on.
    ///
    /// - Throws: ``CheckpointError`` when the process is gone.
    public func continueAsClone() throws(CheckpointError) {
        precondition(state != .ended, "FrozenProcess: continued after its end")
        let isCommitted = state == .granted && !description.signals.stopped
        state = .ended
        try CheckpointError.translating(pageSource.pid, "continue") {
            if isCommitted { try Self.swallowStop(stopped.group.leader) }
        }
        try letGo(runsOn: true)
    }

    /// How long the kernel may take to end a process, or to bring a thread to its next stop.
    private static let patience = Duration.seconds(10)

    private func letGo(runsOn: Bool) throws(CheckpointError) {
        try CheckpointError.translating(pageSource.pid, "let go of") { try stopped.letGo(runsOn: runsOn) }
    }

    /// Takes the SIGSTOP of ``commitGranted()`` out of the queue: one thread stands before its delivery, and is let go without it.
    private static func swallowStop(_ leader: Tracee) throws(TraceError) {
        let mask = try leader.signalMask()
        // SIGSTOP alone cannot be blocked, so it is the only signal that comes.
        try leader.setSignalMask(.max)
        try leader.resume()
        let deadline = Deadline.after(patience)
        while try leader.waitForStop(deadline: deadline) != .signal(Signal.stop.rawValue) {
            try leader.resume()
        }
        try leader.setSignalMask(mask)
    }
}
