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

    init(_ journal: RestoreJournal, process userfaultfd: Int32) throws {
        let count = journal.events.count
        var segments: [Segment] = []
        var index: UInt64 = 0
        while index < count, case .segment(let segment) = journal.entry(index) {
            segments.append(segment)
            index += 1
        }
        books = LazyPages(segments: segments)
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
        case .segment: throw SessionFailure(.bug, "the journal of the restorer that has died is out of order")
        case .step(let step, let added):
            try books.replay(step)
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

extension MemoryState {
    /// Everything that can be mapped; the kernel refuses addresses below the first ones.
    private static let addressSpace = AddressRange(VirtualAddress(1 << 20), VirtualAddress(0x7fff_ffff_f000))

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
        for (space, range) in unconfirmed {
            if let handle = state.handle(of: space) { state.confirmUnmap(range, of: handle) }
        }
        for space in spaces { try space.uffd.wake(addressSpace) }
        return state
    }
}
