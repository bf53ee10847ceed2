// SPDX-License-Identifier: Apache-2.0
internal import LazyPages
internal import LinuxSystem
internal import Paging
internal import Reporting
internal import Userfaultfd

// Lazy shared memory. Its pages go into the objects by mappings of this program, whatever the process does meanwhile.
extension MemoryState {
    /// Whether an event of shared memory waits until all of it is there, or has been read too early: look again soon.
    var objectsAreHeld: Bool { objects?.isHeld == true || objects?.removals.isEmpty == false }

    /// Whether all shared memory has come and nobody has taken note of that.
    var objectsAreDone: Bool {
        guard let objects else { return false }
        return !objects.isComplete && objects.removals.isEmpty && books.owesNothing(.objects)
    }

    /// Asks for what is missing of it, as long as no more than `limit` pages are asked for.
    mutating func requestObjects(into list: inout [PageRequest], limit: UInt64) {
        var pages: UInt64 = 0
        while pages < limit, let request = books.nextRequest(forAllOf: .objects) {
            list.append(request)
            pages += UInt64(request.count)
        }
    }

    // MARK: Events and faults

    /// Reads faults; events as well once all of it is there.
    ///
    /// - Returns: whether it has been decided what is owed.
    mutating func serviceObjects() throws(SystemCallError) -> Bool {
        guard objects != nil else { return false }
        let hasDecided = try decideRemovals()
        if objectsAreDone { try objectsAreThere() }
        if objects?.isComplete != true {
            try readObjectFaults()
        } else {
            for handle in objects?.handles ?? [] { try answerAfterwards(handle) }
        }
        return hasDecided
    }

    /// Everything is there: who waits finds it, or a hole.
    private mutating func objectsAreThere() throws(SystemCallError) {
        objects?.isComplete = true
        objects?.isHeld = false
        objects?.forgetRecent()
        let handles = objects?.handles ?? []
        for handle in handles { try handle.uffd.wake(Self.addressSpace) }
        ended(.objects, Self.addressSpace)
        // From now on they are watched.
        watchLater(handles.dropFirst())
    }

    /// Reads what is no event.
    ///
    /// The kernel hands out faults before events, so as many are read as there are faults, and none while an event is waiting. Between the
    /// look and the read both an event may come and a thread stop to wait (for a signal): then an event is read, see ``entered(_:)``.
    private mutating func readObjectFaults() throws(SystemCallError) {
        guard let objects, objects.removals.isEmpty, let handle = objects.handles.first else { return }
        let count = try objects.pending.count()
        let isHeld = try handle.uffd.isChanging()
        self.objects?.isHeld = isHeld
        if isHeld {
            if try holdsUpFork() { try readObjectEvents(handle, limit: UserfaultEvents.capacity) }
        } else {
            self.objects?.stuckSince = nil
            if count > 0 { try readObjectEvents(handle, limit: count) }
        }
    }

    /// Reads one message after the other and nothing behind a removal, so that no more than one of them is undecided.
    private mutating func readObjectEvents(_ handle: AddressSpaceHandle, limit: Int) throws(SystemCallError) {
        let space = handle.identifier.number
        for _ in 0..<limit where objects?.removals.isEmpty == true {
            guard try handle.uffd.readEvents(into: events, noting: journal?.events, space: space, limit: 1) > 0 else {
                return
            }
            try entered(events[0])
        }
    }

    /// Whether a fork has to be let go on: it says so to one userfaultfd after the other, and until it has said so to that of private memory
    /// nothing is installed there, maybe not even by the threads that would bring shared memory.
    private mutating func holdsUpFork() throws(SystemCallError) -> Bool {
        guard let process = self.handle(of: .process), try process.uffd.isChanging() else {
            objects?.stuckSince = nil
            return false
        }
        guard let objects, let since = objects.stuckSince else {
            self.objects?.stuckSince = .now
            return false
        }
        guard since.elapsed > objects.forkPatience else { return false }
        self.objects?.stuckSince = nil
        return true
    }

    /// A message that was read before all of the memory is there.
    mutating func entered(_ event: UserfaultEvent) throws(SystemCallError) {
        switch event {
        case .pageFault(let fault): noteFault(fault, of: .objects)
        case .fork(let descriptor):
            // The child waits where it misses something, until everything is there.
            let features = objects?.handles.first?.uffd.features ?? []
            let uffd = Userfaultfd.adoptAgreed(OwnedDescriptor(adopting: descriptor), features: features)
            try uffd.setNonBlocking()
            let child = AddressSpaceHandle(.objects, uffd)
            objects?.handles.append(child)
            watchLater([child])
        case .remove(let range):
            objects?.removals.append(
                LazyObjects.Removal(range: range, decision: .after(LazyObjects.removalTime))
            )
        // Who touches what was moved waits until everything is there.
        case .remap, .unmap: return
        case .unknown(let number):
            throw SystemCallError("read", .invalid, operand: "userfaultfd: unknown event \(number)")
        }
    }

    /// Finds out what a removal was whose event was read too early: MADV_REMOVE takes pages out of the object and MADV_DONTNEED does not.
    ///
    /// Until then nothing is installed there.
    ///
    /// - Returns: whether it is known.
    private mutating func decideRemovals() throws(SystemCallError) -> Bool {
        guard let removal = objects?.removals.first, let wasPunched = try wasPunched(removal) else { return false }
        if wasPunched { unmapConfirmed(.objects, removal.range) }
        objects?.removals.removeFirst()
        if let known = try objects?.lookAtModification(of: removal.range) { journal?.note(known) }
        return true
    }

    /// Nil when it is not known yet.
    private func wasPunched(_ removal: LazyObjects.Removal) throws(SystemCallError) -> Bool? {
        guard let objects else { return false }
        guard removal.decision.hasPassed else { return nil }
        let isModified = try objects.wasModified(removal.range)
        guard let present = books.firstPresentPage(in: removal.range, of: .objects) else { return isModified }
        // The kernel begins at the lower end.
        if try objects.holds(present) { return false }
        // It notes the modification at the upper end: before that it would be held against the next removal.
        return isModified ? true : nil
    }

    /// Answers everything of one userfaultfd, when all pages are there: what is missing is a hole.
    private mutating func answerAfterwards(_ handle: AddressSpaceHandle) throws(SystemCallError) {
        let space = handle.identifier.number
        while try handle.uffd.readEvents(into: events, noting: journal?.events, space: space) > 0 {
            for number in 0..<events.count {
                switch events[number] {
                case .pageFault(let fault): try installHole(fault.address, handle)
                // Nothing is missing in the child, so nothing of it has to be registered.
                case .fork(let descriptor): _ = OwnedDescriptor(adopting: descriptor)
                case .remap, .remove, .unmap: continue
                case .unknown(let number):
                    throw SystemCallError("read", .invalid, operand: "userfaultfd: unknown event \(number)")
                }
            }
            if events.count < UserfaultEvents.capacity { break }
        }
    }

    private func installHole(_ address: VirtualAddress, _ handle: AddressSpaceHandle) throws(SystemCallError) {
        let page = PageRun(address: VirtualAddress(pageNumber: address.pageNumber), count: 1).range
        // Otherwise the thread finds the page, or asks once more.
        if try handle.uffd.zero(page) != .installed { try handle.uffd.wake(page) }
    }

    // MARK: Pages

    /// Installs pages of an arrival into their object; nil when that has to wait.
    mutating func installIntoObject(
        _ install: Install,
        from buffer: TransferBuffer,
        at offset: Int
    ) throws(SystemCallError) -> CopyOutcome? {
        let first = install.address.pageNumber
        let pages = first..<first + UInt64(install.count)
        return try installIntoObject(pages, from: install.isZeros ? nil : buffer, offset)
    }

    /// Zeros for a thread that waits for a page that never existed.
    ///
    /// - Returns: false when that has to wait.
    mutating func fillObjectHole(at address: VirtualAddress) throws(SystemCallError) -> Bool {
        let page = address.pageNumber
        guard let outcome = try installIntoObject(page..<page + 1, from: nil, 0) else { return false }
        if outcome != .installed { try wakeObjectPages(page..<page + 1) }
        return true
    }

    private mutating func installIntoObject(
        _ pages: Range<UInt64>,
        from buffer: TransferBuffer?,
        _ offset: Int
    ) throws(SystemCallError) -> CopyOutcome? {
        guard var objects else { return .vanished }
        guard !objects.removals.contains(where: { $0.range.pageNumbers.overlaps(pages) }) else { return nil }
        // Only one of them changes it.
        self.objects = nil
        defer { self.objects = objects }
        let outcome = try objects.install(pages, from: buffer, at: offset)
        let installed: Range<UInt64>
        switch outcome {
        case .installed: installed = pages
        case .partial(let count): installed = pages.lowerBound..<pages.lowerBound + UInt64(count)
        case .alreadyPresent, .interrupted, .vanished, .targetGone: return outcome
        }
        let range = AddressRange(pageNumbers: installed)
        for handle in objects.handles { try handle.uffd.wake(range) }
        return outcome
    }

    /// Lets threads look again.
    mutating func wakeObjectPages(_ pages: Range<UInt64>) throws(SystemCallError) {
        let range = AddressRange(pageNumbers: pages)
        for handle in objects?.handles ?? [] { try handle.uffd.wake(range) }
        ended(.objects, range)
    }
}
