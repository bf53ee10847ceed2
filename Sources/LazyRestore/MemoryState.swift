// SPDX-License-Identifier: Apache-2.0
internal import LazyPages
internal import LinuxSystem
internal import PageWire
internal import Paging
internal import ProcessTrace
internal import Reporting
internal import Userfaultfd

/// The books and the userfaultfds of a restored process: what one thread at a time may touch.
///
/// Everything here runs under one lock, and under one hold of it events are read, entered and answered, so that no install can overtake
/// a removal. Nothing here waits for the network.
struct MemoryState: ~Copyable {
    /// A fault that was read and not answered yet.
    private struct Waiting {
        var space: SpaceIdentifier
        var address: VirtualAddress
    }

    /// How often an install that the kernel puts off is tried again at once.
    static let immediateRetries = 64

    var books: LazyPages
    private var spaces: [AddressSpaceHandle]
    let events = UserfaultEvents()
    private var faults: [Waiting] = []
    private var deferred: [Waiting] = []
    /// Threads that wait, and have waited.
    private(set) var stalls = StallBook()
    /// Over pages that came for the first time.
    private(set) var digest = PageDigest()
    /// Pages that came first as zeros.
    private(set) var zeroPages: UInt64 = 0
    /// Pages that came again, or too late.
    private(set) var stalePages: UInt64 = 0
    /// For the fault thread to send.
    private var requests: [PageRequest] = []
    /// The same, for which nobody waits yet: behind those of all faults of the turn.
    private var requestsAhead: [PageRequest] = []
    /// What was pre-copied; nil when nothing was, or when all of it has been taken.
    var staged: PageStore?
    /// Whether everything that was pre-copied has been named.
    var hasPreCopyMap: Bool
    /// Pages that came first by pre-copy.
    var preCopiedPages: UInt64 = 0
    /// Faults that are answered with pages that are here, once all others of the turn have been looked at.
    private var localFaults: [PageRequest] = []
    /// Pre-copied pages whose install the kernel has put off.
    var unfinished: [Arrival] = []
    /// Children that were forked and are not yet watched and guarded.
    private var unguarded: [AddressSpaceHandle] = []
    /// A thread of each space, by which `/proc` finds it.
    var threads: [SpaceIdentifier: Int32] = [:]
    /// Finds the threads that page faults name.
    let lookup: ThreadLookup
    /// Where guards are looked up, by space.
    var guardLookups: [SpaceIdentifier: GuardLookup] = [:]
    /// Whether there may be pages that are marked as poisoned: only bytes take their place, UFFDIO_ZEROPAGE does not.
    var isPoisoned = false {
        didSet { if isPoisoned && !oldValue { journal?.notePoison() } }
    }
    /// Whether the stream brings what it is to bring.
    var stream = StreamWatch()
    /// Lazy shared memory; nil when there is none.
    var objects: LazyObjects?
    /// Where everything is noted that somebody who takes over has to know.
    let journal: RestoreJournal?

    init(
        segments: [Segment],
        uffd: consuming Userfaultfd,
        pid: Int32,
        objects: LazyObjects? = nil,
        staged: PageStore? = nil,
        journal: RestoreJournal? = nil
    ) {
        if let journal { for segment in segments { journal.note(segment) } }
        if let objects { journal?.note(objects) }
        self.init(
            books: LazyPages(segments: segments, objects: objects?.segments ?? []),
            spaces: [AddressSpaceHandle(.process, uffd)],
            pid: pid,
            journal: journal
        )
        self.objects = objects
        self.staged = staged
        if let staged { journal?.note(staged) }
        hasPreCopyMap = staged == nil
    }

    /// With books that have been kept already.
    init(
        books: consuming LazyPages,
        spaces: [AddressSpaceHandle],
        digest: PageDigest = PageDigest(),
        pid: Int32,
        journal: RestoreJournal?
    ) {
        self.books = books
        self.spaces = spaces
        self.digest = digest
        self.journal = journal
        hasPreCopyMap = true
        threads[.process] = pid
        lookup = ThreadLookup(pid: pid)
        faults.reserveCapacity(UserfaultEvents.capacity * 16)
        deferred.reserveCapacity(UserfaultEvents.capacity * 16)
        requests.reserveCapacity(UserfaultEvents.capacity * 16)
        requestsAhead.reserveCapacity(UserfaultEvents.capacity * 64)
    }

    /// What was agreed on the userfaultfds.
    var features: UserfaultFeatures { spaces.first?.uffd.features ?? [] }

    /// The userfaultfds of all spaces, with their numbers.
    var userfaultfds: [(space: SpaceIdentifier, descriptor: Int32)] {
        (spaces + (objects?.handles ?? [])).map { ($0.identifier, $0.uffd.descriptor) }
    }

    /// Whether every page is where it belongs and is counted.
    var isComplete: Bool {
        // First what is false until the last page is here.
        digest.count == books.mappedPages && books.hasAllPages && books.isResident && objects?.removals.isEmpty != false
    }

    /// Whether faults wait for the kernel to be done with a change of the address space.
    var hasDeferredFaults: Bool { !deferred.isEmpty || !unfinished.isEmpty }

    /// Whether the fault thread has something to send, to watch or to try again.
    var needsAttention: Bool {
        !requests.isEmpty || !requestsAhead.isEmpty || !unguarded.isEmpty || hasDeferredFaults || objectsAreDone
    }

    /// Requests to send, each once.
    mutating func takeRequests(into list: inout [PageRequest]) {
        list.append(contentsOf: requests)
        list.append(contentsOf: requestsAhead)
        requests.removeAll(keepingCapacity: true)
        requestsAhead.removeAll(keepingCapacity: true)
    }

    /// Everything that was asked for and has not come, for a new connection.
    mutating func repeatRequests(into list: inout [PageRequest]) {
        requests.removeAll(keepingCapacity: true)
        requestsAhead.removeAll(keepingCapacity: true)
        books.connectionsRenewed()
        stream.isSilent = false
        var address = VirtualAddress(0)
        while let request = books.nextPendingRequest(from: address) {
            list.append(request)
            address = VirtualAddress(request.address.rawValue + UInt64(request.count) << PageSize.shift)
        }
    }

    /// Children to guard and to watch, each once.
    mutating func takeUnguarded() -> [AddressSpaceHandle] {
        guard !unguarded.isEmpty else { return [] }
        defer { unguarded = [] }
        return unguarded
    }

    /// Lets go of every userfaultfd; only when nothing is owed or the process is dead.
    mutating func close() {
        spaces = []
        unguarded = []
        objects = nil
    }

    /// These are to be held by the guardian, and watched when they have to be.
    mutating func watchLater(_ handles: some Sequence<AddressSpaceHandle>) {
        for handle in handles where !unguarded.contains(where: { $0 === handle }) { unguarded.append(handle) }
    }
}

// MARK: - Events and faults

extension MemoryState {
    /// Reads and enters all events, then answers all faults.
    ///
    /// - Returns: whether there was anything.
    mutating func service() throws(SystemCallError) -> Bool {
        try readEvents()
        let hasDecided = try serviceObjects()
        if !unfinished.isEmpty { try continueLocally() }
        guard !faults.isEmpty || !deferred.isEmpty else { return hasDecided }
        for _ in 0..<Self.immediateRetries {
            swap(&faults, &deferred)
            faults.append(contentsOf: deferred)
            deferred.removeAll(keepingCapacity: true)
            var index = 0
            while index < faults.count {
                let fault = faults[index]
                index += 1
                if try !answer(fault) { deferred.append(fault) }
            }
            faults.removeAll(keepingCapacity: true)
            if deferred.isEmpty { break }
            // The thread that changes the address space has to run before the kernel goes on.
            Processor.yield()
            try readEvents()
        }
        while let request = localFaults.popLast() { try installLocally(request) }
        return true
    }

    private mutating func readEvents() throws(SystemCallError) {
        var index = 0
        // A child that is forked meanwhile is appended, and read as well.
        while index < spaces.count {
            let space = spaces[index]
            while try readEvents(of: space) > 0 {
                for number in 0..<events.count { try enter(events[number], of: space) }
                // The kernel fills the buffer as far as there are messages (userfaultfd_read in fs/userfaultfd.c).
                if events.count < UserfaultEvents.capacity { break }
            }
            index += 1
        }
    }

    private func readEvents(of space: AddressSpaceHandle) throws(SystemCallError) -> Int {
        try space.uffd.readEvents(into: events, noting: journal?.events, space: space.identifier.number)
    }

    private mutating func enter(_ event: UserfaultEvent, of space: AddressSpaceHandle) throws(SystemCallError) {
        switch event {
        case .pageFault(let fault):
            noteFault(fault, of: space.identifier)
            if threads[space.identifier] == nil { threads[space.identifier] = lookup.find(fault.thread) }
        case .fork(let descriptor):
            try forked(OwnedDescriptor(adopting: descriptor), by: space)
        case .remap(let from, let to, let byteCount):
            books.remapped(space.identifier, from: from, to: to, length: byteCount)
            try space.uffd.wake(AddressRange(from, VirtualAddress(from.rawValue + byteCount)))
            try space.uffd.wake(AddressRange(to, VirtualAddress(to.rawValue + byteCount)))
        case .remove(let range):
            books.removed(space.identifier, range)
            try space.uffd.wake(range)
        case .unmap(let range):
            if books.unmapped(space.identifier, range) == .confirm { confirmUnmap(range, of: space) }
            try space.uffd.wake(range)
        case .unknown(let number):
            throw SystemCallError("read", .invalid, operand: "userfaultfd: unknown event \(number)")
        }
    }

    /// A thread waits for a page.
    mutating func noteFault(_ fault: PageFault, of space: SpaceIdentifier) {
        faults.append(Waiting(space: space, address: fault.address))
        stalls.began(
            space: space.number,
            page: fault.address.rawValue >> 12,
            thread: UInt32(bitPattern: fault.thread),
            now: MonotonicTime.now.nanoseconds
        )
    }

    private mutating func forked(
        _ descriptor: consuming OwnedDescriptor,
        by parent: AddressSpaceHandle
    ) throws(SystemCallError) {
        let uffd = Userfaultfd.adoptAgreed(descriptor, features: parent.uffd.features)
        try uffd.setNonBlocking()
        guard let identifier = books.forked(parent.identifier) else { return }
        let child = AddressSpaceHandle(identifier, uffd)
        spaces.append(child)
        unguarded.append(child)
    }

    /// Answers a fault; false when the kernel puts it off.
    private mutating func answer(_ fault: Waiting) throws(SystemCallError) -> Bool {
        if fault.space == .objects, objects?.isComplete != false {
            let page = fault.address.pageNumber
            try wakeObjectPages(page..<page + 1)
            return true
        }
        switch books.pageFaulted(fault.space, at: fault.address) {
        case .request(let request):
            requests.append(request)
            while let next = books.nextRequestAhead() { requestsAhead.append(next) }
            return true
        case .installZeros(let fill): return try install(fill)
        case .installLocally(let request):
            localFaults.append(request)
            return true
        case .wake:
            let page = fault.address.pageNumber
            try wakeObjectPages(page..<page + 1)
            return true
        case .awaitPendingReply, .awaitEverything, .ignore: return true
        }
    }

    private mutating func install(_ fill: ZeroFill) throws(SystemCallError) -> Bool {
        if fill.space == .objects { return try fillHole(fill) }
        guard let space = handle(of: fill.space) else { return true }
        var count = UInt64(fill.count)
        while true {
            let range = AddressRange(fill.address, VirtualAddress(fill.address.rawValue + count << 12))
            let outcome = try space.uffd.zero(range)
            switch outcome {
            case .installed: ended(fill.space, range)
            case .partial(let pages):
                ended(
                    fill.space,
                    AddressRange(fill.address, VirtualAddress(fill.address.rawValue + UInt64(pages) << 12))
                )
            case .alreadyPresent:
                let first = AddressRange(fill.address, VirtualAddress(fill.address.rawValue + PageSize.base))
                try space.uffd.wake(first)
                ended(fill.space, first)
            case .interrupted: return false
            case .vanished where count > 1:
                count = 1
                continue
            case .vanished: try space.uffd.wake(range)
            case .targetGone: gone(space)
            }
            return true
        }
    }

    private mutating func fillHole(_ fill: ZeroFill) throws(SystemCallError) -> Bool {
        guard try fillObjectHole(at: fill.address) else { return false }
        ended(fill.space, PageRun(address: fill.address, count: 1).range)
        return true
    }

    mutating func ended(_ space: SpaceIdentifier, _ range: AddressRange) {
        guard stalls.openCount > 0 else { return }
        let pages = range.lowerBound.rawValue >> 12..<range.upperBound.rawValue >> 12
        stalls.ended(space: space.number, pages: pages, now: MonotonicTime.now.nanoseconds)
    }

    mutating func gone(_ space: AddressSpaceHandle) {
        ended(space.identifier)
        stalls.spaceEnded(space.identifier.number, now: MonotonicTime.now.nanoseconds)
        spaces.removeAll { $0.identifier == space.identifier }
        // Nobody is left who could miss shared memory, which would fill all the same.
        if spaces.isEmpty, objects?.handles.count == 1 { ended(.objects) }
        threads[space.identifier] = nil
        guardLookups[space.identifier] = nil
    }

    /// An address space is gone.
    mutating func ended(_ space: SpaceIdentifier) {
        books.spaceEnded(space)
        journal?.note(.spaceEnded(space))
    }

    /// The kernel answered an install.
    mutating func installed(_ install: Install, _ outcome: InstallOutcome) {
        guard let settled = books.installed(install, outcome) else { return }
        journal?.note(.settled(install.space, settled))
    }

    func handle(of identifier: SpaceIdentifier) -> AddressSpaceHandle? {
        spaces.first { $0.identifier == identifier }
    }
}

// MARK: - Pages

extension MemoryState {
    /// What an attempt to install found.
    enum InstallStep {
        /// The books want nothing more of this arrival.
        case done
        /// Some pages are there; more of them remain.
        case more
        /// The kernel is in the middle of a change of the address space: try again soon.
        case interrupted
    }

    /// A part of the page map came.
    mutating func mapArrived(_ runs: [PageRun], isLast: Bool) throws(LazyPagesError) {
        try books.pageMapArrived(runs)
        journal?.notePageMap(runs)
        guard isLast else { return }
        try books.pageMapCompleted()
        journal?.note(.pageMapCompleted)
    }

    /// Pages came; then ask ``installSome(of:from:limit:)`` until it is done.
    mutating func arrived(_ arrival: Arrival) throws(LazyPagesError) -> FirstArrivals {
        let first = try books.pagesArrived(arrival)
        if arrival.content != .absent { stalePages += UInt64(arrival.count) - UInt64(first.count) }
        if arrival.content == .zeros { zeroPages += UInt64(first.count) }
        return first
    }

    /// Installs at most `limit` pages of an arrival whose bytes are in `buffer` from `offset` on.
    mutating func installSome(
        of arrival: Arrival,
        from buffer: TransferBuffer,
        at offset: Int,
        limit: Int
    ) throws(SystemCallError) -> InstallStep {
        var limit = limit
        var tries = 0
        while let install = books.nextInstall(of: arrival, limit: limit) {
            let end = VirtualAddress(install.address.rawValue + UInt64(install.count) << 12)
            let range = AddressRange(install.address, end)
            if install.space == .objects {
                let place = offset + install.offset * PageSize.baseBytes
                guard let outcome = try installIntoObject(install, from: buffer, at: place) else {
                    // Whoever waits for the decision may be the one to make it.
                    _ = try service()
                    return .interrupted
                }
                try objectInstalled(install, outcome)
                if outcome == .installed { return books.nextInstall(of: arrival, limit: 1) == nil ? .done : .more }
                if outcome == .vanished { limit = 1 }
                continue
            }
            guard let space = handle(of: install.space) else {
                ended(install.space)
                continue
            }
            if !install.isZeros, let guarded = guardRange(in: range, of: space) {
                limit = try stopBefore(guarded, install, space)
                continue
            }
            let outcome =
                install.isZeros
                ? try installZeros(range, in: space)
                : try space.uffd.copy(
                    from: buffer,
                    at: offset + install.offset * PageSize.baseBytes,
                    to: install.address,
                    pages: install.count,
                    modes: space.copyModes
                )
            switch outcome {
            case .installed:
                installed(install, .installed(install.count))
                ended(install.space, range)
                return books.nextInstall(of: arrival, limit: 1) == nil ? .done : .more
            case .partial(let pages):
                installed(install, .installed(pages))
                ended(
                    install.space,
                    AddressRange(range.lowerBound, VirtualAddress(range.lowerBound.rawValue + UInt64(pages) << 12))
                )
            case .alreadyPresent:
                let page = AddressRange(range.lowerBound, VirtualAddress(range.lowerBound.rawValue + PageSize.base))
                try space.uffd.wake(page)
                installed(install, .alreadyPresent)
                ended(install.space, page)
            case .interrupted:
                tries += 1
                guard tries < Self.immediateRetries else { return .interrupted }
                Processor.yield()
                _ = try service()
            case .vanished:
                installed(install, .vanished)
                limit = 1
            case .targetGone: gone(space)
            }
        }
        return .done
    }

    private mutating func objectInstalled(_ install: Install, _ outcome: CopyOutcome) throws(SystemCallError) {
        let first = install.address.pageNumber
        switch outcome {
        case .installed:
            installed(install, .installed(install.count))
            ended(install.space, AddressRange(pageNumbers: first..<first + UInt64(install.count)))
        case .partial(let pages):
            installed(install, .installed(pages))
            ended(install.space, AddressRange(pageNumbers: first..<first + UInt64(pages)))
        case .alreadyPresent:
            try wakeObjectPages(first..<first + 1)
            installed(install, .alreadyPresent)
        case .interrupted, .vanished, .targetGone: installed(install, .vanished)
        }
    }

    /// Counts pages that came for the first time; after they were installed, since nobody waits for that.
    ///
    /// Who takes over asks again for what has not been counted.
    mutating func counted(_ first: FirstArrivals, at address: VirtualAddress, _ pages: PageDigest) {
        digest.add(pages)
        journal?.note(.arrived(address, first), pages)
    }

    /// The source could not read pages that were asked for; they stay owed.
    mutating func requestFailed(_ request: PageRequest) {
        books.requestFailed(request)
    }
}
