// SPDX-License-Identifier: Apache-2.0
internal import LazyPages
internal import LinuxSystem
internal import Paging
internal import Reporting
internal import Userfaultfd

/// The books of a restorer that has died, made anew from its journal.
private struct ReplayedBooks: ~Copyable {
    var books: LazyPages
    /// Of the spaces that have lived; a number may have come to mean another descriptor when its space had ended.
    var userfaultfds: [SpaceIdentifier: Int32]
    var digest = PageDigest()
    var isPoisoned = false
    /// The blocks of what was pre-copied.
    var blocks: [UInt64] = []
    var hasPreCopyMap = false
    /// Unmappings that the dead one may not have looked at any more.
    var unconfirmed: [(SpaceIdentifier, AddressRange)] = []
    /// Mappings of lazy shared memory, whose objects are numbers of descriptors.
    var objectMappings: [LazyObjects.Mapping] = []
    /// By descriptor, when each object was last modified, as far as that is known.
    var objectsModified: [Int32: Int64] = [:]
    /// Userfaultfds of children for that memory; those that were closed may have come to mean something else.
    var objectChildren: [Int32] = []
    /// Removals there whose events have been read, and that are not decided.
    var objectRemovals: [AddressRange] = []

    init(_ journal: RestoreJournal, process userfaultfd: Int32) throws {
        let count = journal.events.count
        var segments: [Segment] = []
        var index: UInt64 = 0
        while index < count, case .segment(let segment) = journal.entry(index) {
            segments.append(segment)
            index += 1
        }
        while index < count, case .objectMapping(let mapping) = journal.entry(index) {
            objectMappings.append(mapping)
            index += 1
        }
        let objects = objectMappings.map { Segment(AddressRange(pageNumbers: $0.pages)) }
        books = LazyPages(segments: segments, objects: objects)
        userfaultfds = [.process: userfaultfd]
        while index < count {
            guard let entry = journal.entry(index) else {
                throw SessionFailure(.bug, "the journal of the restorer that has died has an unknown entry")
            }
            try replay(entry)
            index += 1
        }
    }

    private mutating func replay(_ entry: RestoreJournal.Entry) throws {
        switch entry {
        case .objectModified(let known):
            objectsModified[known.descriptor] = known.time
            // At first there are none; later it says that the oldest is decided.
            if !objectRemovals.isEmpty { objectRemovals.removeFirst() }
        case .segment, .objectMapping:
            throw SessionFailure(.bug, "the journal of the restorer that has died is out of order")
        case .step(let step, let added):
            try books.replay(step)
            digest.add(added)
        case .pageMap(let runs): for run in runs { try books.replay(.pageMapArrived(run)) }
        case .settledArrived(let space, let settled, let added):
            try books.replay(.settled(space, settled))
            let first = FirstArrivals(bits: UInt64.max >> (64 - settled.count))
            try books.replay(.arrived(VirtualAddress(pageNumber: settled.first), first))
            digest.add(added)
        case .poisoned: isPoisoned = true
        case .storedBlock(let block): blocks.append(block)
        case .preCopyMapCompleted: hasPreCopyMap = true
        case .event(let event, let space): try replay(event, of: space)
        }
    }

    /// What was pre-copied, is right, and has not been counted; nil when there is nothing.
    mutating func adoptStaged(_ descriptor: Int32) throws(SystemCallError) -> PageStore? {
        guard descriptor >= 0 else { return nil }
        let owned = try OwnedDescriptor.adoptInherited(descriptor)
        guard hasPreCopyMap, let first = books.nextLocalRun(from: 0, limit: 1) else {
            books.forgetPreCopied()
            return nil
        }
        var pages = PageSet()
        var position = first.lowerBound
        while let run = books.nextLocalRun(from: position, limit: PageStore.blockPages) {
            pages.insert(run)
            position = run.upperBound
        }
        return try PageStore(adopting: owned, blocks: blocks, pages: pages)
    }

    private mutating func replay(_ event: UserfaultEvent, of space: SpaceIdentifier) throws {
        guard space != .objects else { return replayObject(event) }
        switch event {
        case .pageFault: return
        case .fork(let descriptor): if let child = books.forked(space) { userfaultfds[child] = descriptor }
        case .remap(let from, let to, let byteCount):
            books.remapped(space, from: from, to: to, length: byteCount)
        case .remove(let range): books.removed(space, range)
        case .unmap(let range): if books.unmapped(space, range) == .confirm { unconfirmed.append((space, range)) }
        case .unknown(let number): throw SystemCallError("read", .invalid, operand: "userfaultfd: event \(number)")
        }
    }
}

// Lazy shared memory.
extension ReplayedBooks {
    /// Events that were read before everything was there, or behind that: then nothing follows from them.
    private mutating func replayObject(_ event: UserfaultEvent) {
        switch event {
        case .fork(let descriptor): objectChildren.append(descriptor)
        case .remove(let range): objectRemovals.append(range)
        case .pageFault, .remap, .unmap, .unknown: return
        }
    }

    /// The objects, mapped anew; nil when there are none.
    func adoptObjects(_ userfaultfd: Int32, living: [Int32]) throws(SystemCallError) -> LazyObjects? {
        guard userfaultfd >= 0, !objectMappings.isEmpty else { return nil }
        var (files, places, modified): ([HeldDescriptor], [Int: Int], [Int64]) = ([], [:], [])
        var mappings = objectMappings
        for (index, mapping) in objectMappings.enumerated() {
            if let known = places[mapping.object] {
                mappings[index].object = known
                continue
            }
            let number = Int32(truncatingIfNeeded: mapping.object)
            (places[mapping.object], mappings[index].object) = (files.count, files.count)
            files.append(HeldDescriptor(try OwnedDescriptor.adoptInherited(number)))
            modified.append(objectsModified[number] ?? 0)
        }
        let owned = try OwnedDescriptor.adoptInherited(userfaultfd)
        let uffd = Userfaultfd.adoptAgreed(owned, features: .lazyObjects)
        var objects = try LazyObjects(mappings, try ObjectWindows(of: files), modified: modified, uffd: uffd)
        objects.handles += try adoptChildren(otherThan: living + [userfaultfd])
        if !books.owesNothing(.objects) {
            objects.removals = objectRemovals.map {
                LazyObjects.Removal(range: $0, decision: .after(LazyObjects.removalTime))
            }
        }
        return objects
    }

    private func adoptChildren(otherThan known: [Int32]) throws(SystemCallError) -> [AddressSpaceHandle] {
        var children: [AddressSpaceHandle] = []
        for number in Set(objectChildren).subtracting(known).sorted() where Userfaultfd.isOne(number) {
            let owned = try OwnedDescriptor.adoptInherited(number)
            children.append(AddressSpaceHandle(.objects, Userfaultfd.adoptAgreed(owned, features: .lazyObjects)))
        }
        return children
    }
}

extension MemoryState {
    /// Everything that can be mapped; the kernel refuses addresses below the first ones.
    static let addressSpace = AddressRange(VirtualAddress(1 << 20), VirtualAddress(0x7fff_ffff_f000))

    /// Takes over what a restorer has left that has died: its userfaultfds, and the books as they were.
    ///
    /// What was pre-copied is kept, unless it is not known yet what of it is right; then all of it is asked for. Threads that wait fault
    /// again, since nobody else knows of them.
    static func takingOver(_ journal: RestoreJournal) throws -> sending MemoryState {
        let facts = journal.events.facts
        var replayed = try ReplayedBooks(journal, process: facts.userfaultfd)
        let staged = try replayed.adoptStaged(facts.staged)
        let userfaultfds = replayed.userfaultfds
        var spaces: [AddressSpaceHandle] = []
        for space in replayed.books.livingSpaces {
            guard let number = userfaultfds[space] else { continue }
            let owned = try OwnedDescriptor.adoptInherited(number)
            spaces.append(AddressSpaceHandle(space, Userfaultfd.adoptAgreed(owned, features: facts.features)))
        }
        let living = replayed.books.livingSpaces.compactMap { userfaultfds[$0] }
        let objects = try replayed.adoptObjects(facts.objects, living: living)
        let (unconfirmed, digest, isPoisoned) = (replayed.unconfirmed, replayed.digest, replayed.isPoisoned)
        var state = MemoryState(
            books: replayed.books,
            spaces: spaces,
            digest: digest,
            pid: facts.pid,
            journal: journal
        )
        state.isPoisoned = isPoisoned
        state.staged = staged
        state.objects = objects
        for (space, range) in unconfirmed {
            if let handle = state.handle(of: space) { state.confirmUnmap(range, of: handle) }
        }
        for space in spaces + (objects?.handles ?? []) { try space.uffd.wake(addressSpace) }
        return state
    }
}
