// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LazyPages
internal import LinuxSystem
internal import PageWire
internal import Paging
internal import Synchronization
internal import Userfaultfd

/// The memory of a restored process, shared by the thread that answers faults and the threads that stream.
final class LazyMemory: Sendable {
    /// How urgent a caller is.
    enum Urgency {
        /// A thread of the process waits.
        case fault
        /// Nobody waits yet.
        case stream

        /// Pages that one hold of the lock installs: a fault waits for no more than these, about ten microseconds.
        var pagesPerHold: Int {
            switch self {
            case .fault: 64
            case .stream: 16
            }
        }
    }

    private let state: UrgentLock<MemoryState>
    /// Readable when the fault thread has requests to send or a child to watch.
    let attention: EventDescriptor
    /// Readable, for ever, when every page is there and counted.
    let completed: EventDescriptor
    /// Readable when guard pages have to be installed in the process.
    let lateGuards: EventDescriptor
    private let isCompletionTold = Atomic<Bool>(false)
    private let stop: EventDescriptor

    init(_ state: consuming sending MemoryState, stop: EventDescriptor) throws(SystemCallError) {
        attention = try EventDescriptor()
        completed = try EventDescriptor()
        lateGuards = try EventDescriptor()
        self.stop = stop
        self.state = UrgentLock(state)
    }

    /// Runs `body` alone; who streams lets a fault go first.
    ///
    /// Whatever it does may be the last thing that was owed (an install, a removal, the answer to a page that had come already): so this is
    /// the only place that looks.
    func with<Result, Failure: Error>(
        _ urgency: Urgency,
        _ body: (inout MemoryState) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        var isComplete = false
        defer { if isComplete { tellCompletion() } }
        switch urgency {
        case .fault:
            return try state.withUrgentLock { state throws(Failure) in
                defer { isComplete = state.isComplete }
                return try body(&state)
            }
        case .stream:
            return try state.withBackgroundLock { state throws(Failure) in
                defer { isComplete = state.isComplete }
                return try body(&state)
            }
        }
    }

    private func tellCompletion() {
        guard !isCompletionTold.exchange(true, ordering: .relaxed) else { return }
        completed.signal()
    }

    /// Lets a fault go first that waits for a CPU; for who streams, between two pieces of work.
    func makeWay() {
        state.makeWay()
    }

    /// Installs pages that came, wherever a space is owed them, and counts them.
    ///
    /// - Parameters:
    ///   - arrival: what came.
    ///   - digest: over all of it, where that is known.
    ///   - buffer: holds the bytes from `offset` on; untouched meanwhile.
    ///   - urgency: of the caller.
    @discardableResult
    func deliver(
        _ arrival: Arrival,
        _ digest: PageDigest? = nil,
        from buffer: TransferBuffer,
        at offset: Int,
        _ urgency: Urgency
    ) throws -> FirstArrivals {
        let (first, isInstalled, needsAttention) = try with(urgency) { state in
            let first = try state.arrived(arrival)
            let step = try state.installSome(of: arrival, from: buffer, at: offset, limit: urgency.pagesPerHold)
            return (first, step == .done, state.needsAttention)
        }
        // Events that were read on the way may have brought requests and children.
        if needsAttention { attention.signal() }
        if !isInstalled { try install(arrival, from: buffer, at: offset, urgency) }
        if first.count == arrival.count, let digest {
            count(arrival, first, digest, urgency)
        } else if first.count > 0 {
            count(arrival, first, Self.digest(of: first, in: arrival, buffer, offset), urgency)
        }
        return first
    }

    /// Goes on with an install that is not done.
    private func install(_ arrival: Arrival, from buffer: TransferBuffer, at offset: Int, _ urgency: Urgency) throws {
        while true {
            let (step, needsAttention) = try with(urgency) { state throws(SystemCallError) in
                let step = try state.installSome(of: arrival, from: buffer, at: offset, limit: urgency.pagesPerHold)
                return (step, state.needsAttention)
            }
            if needsAttention { attention.signal() }
            switch step {
            case .done: return
            case .more:
                if urgency == .stream { makeWay() }
            case .interrupted:
                if try stop.wait(until: .after(.microseconds(100))) { return }
            }
        }
    }

    private static func digest(
        of first: FirstArrivals,
        in arrival: Arrival,
        _ buffer: TransferBuffer,
        _ offset: Int
    ) -> PageDigest {
        var digest = PageDigest()
        for index in 0..<Int(arrival.count) where first.contains(index) {
            let address = VirtualAddress(arrival.address.rawValue + UInt64(index) << 12)
            if arrival.content == .zeros {
                digest.addZeros(address: address)
            } else {
                digest.add(address: address, from: buffer, at: offset + index * PageSize.baseBytes)
            }
        }
        return digest
    }

    /// Adds pages to the digest; the threads that waited for them run already.
    private func count(_ arrival: Arrival, _ first: FirstArrivals, _ digest: PageDigest, _ urgency: Urgency) {
        with(urgency) { $0.counted(first, at: arrival.address, digest) }
    }

    /// A part of the page map came.
    func mapArrived(_ runs: [PageRun], isLast: Bool) throws(LazyPagesError) {
        let needsAttention = try with(.stream) { state throws(LazyPagesError) in
            try state.mapArrived(runs, isLast: isLast)
            return state.needsAttention
        }
        if needsAttention { attention.signal() }
    }

    /// These pages have not changed since they were pre-copied.
    func preCopyMapArrived(_ runs: [PageRun], isLast: Bool) throws {
        try with(.stream) { try $0.preCopyMapArrived(runs, isLast: isLast) }
    }

    /// The source names guard pages that were not in the grant.
    func guardsArrived(_ runs: [PageRun]) throws(LazyPagesError) {
        let owesGuards = try with(.stream) { state throws(LazyPagesError) in
            try state.guardsArrived(runs)
            return state.owesGuards
        }
        if owesGuards { lateGuards.signal() }
    }

    /// The source answers a request with guard pages.
    func requestMetGuards(_ run: PageRun) throws(LazyPagesError) {
        let owesGuards = try with(.fault) { state throws(LazyPagesError) in
            try state.requestMetGuards(run)
            return state.owesGuards
        }
        if owesGuards { lateGuards.signal() }
    }

    /// Changes guards.
    func settleGuards<Result>(
        _ body: (inout MemoryState) throws(SystemCallError) -> sending Result
    ) throws(SystemCallError) -> sending Result {
        let (result, needsAttention) = try with(.fault) { state throws(SystemCallError) in
            let result = try body(&state)
            return (result, state.needsAttention)
        }
        // Faults that were read on the way are the fault thread's to ask for: the kernel does not tell them again.
        if needsAttention { attention.signal() }
        return result
    }

    /// Lets go of every userfaultfd; only when nothing is owed or the process is dead.
    func close() {
        with(.fault) { $0.close() }
    }
}
