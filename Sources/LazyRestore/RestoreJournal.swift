// SPDX-License-Identifier: Apache-2.0
internal import LazyPages
internal import LinuxSystem
internal import Paging
internal import Userfaultfd

/// Notes every step of the books where it outlives this program: who takes over replays them.
///
/// Of one session; used under the lock of the memory.
struct RestoreJournal: Sendable {
    /// Kinds of records; the numbers are read by another process, which is the same program.
    private enum Kind: UInt8 {
        case segment = 1
        case pageMapArrived, pageMapCompleted, pageMapForgotten, guardsArrived, guardsInstalled, unmapConfirmed
        case spaceEnded, settled, arrived, poisoned, preCopyMapArrived, preCopyMapCompleted, storedBlock
        case objectModified
        /// ``pageMapArrived`` of up to four short runs, each in a word of its own.
        case pageMapPacked
        /// ``settled`` and then ``arrived`` of the same pages, all of which came for the first time.
        case settledArrived
        /// ``JournalRecord/keptDescriptor``.
        case objectMapping = 254
    }

    /// What was noted.
    enum Entry {
        /// A lazy mapping; all of them come first.
        case segment(Segment)
        /// A mapping of lazy shared memory; they come next.
        case objectMapping(LazyObjects.Mapping)
        /// When an object was last modified: before the process ran, and each time that it has become known what a removal was.
        case objectModified(LazyObjects.Modification)
        /// A message of the userfaultfd of a space.
        case event(UserfaultEvent, SpaceIdentifier)
        /// A step of the books; what arrived carries what it adds to the digest.
        case step(BooksStep, PageDigest)
        /// A part of the page map.
        case pageMap([PageRun])
        /// Pages are settled in a space, all of which have come for the first time, and what they add to the digest.
        case settledArrived(SpaceIdentifier, SettledPages, PageDigest)
        /// Pages may be marked as poisoned.
        case poisoned
        /// The next block of what was pre-copied, by its number at the source.
        case storedBlock(UInt64)
        /// Everything that was pre-copied and is right has been named.
        case preCopyMapCompleted
    }

    let events: EventJournal

    func note(_ segment: Segment) {
        events.add(
            JournalRecord(
                kind: Kind.segment.rawValue,
                segment.start,
                segment.count,
                segment.isInherited ? 1 : 0
            )
        )
    }

    /// Mappings are noted with descriptors of their objects.
    func note(_ objects: LazyObjects) {
        for mapping in objects.mappings {
            events.add(
                JournalRecord(
                    kind: JournalRecord.keptDescriptor,
                    UInt64(objects.windows.descriptor(of: mapping.object)),
                    mapping.pages.lowerBound,
                    UInt64(mapping.pages.count),
                    mapping.offset
                )
            )
        }
        for index in 0..<objects.windows.count { note(objects.modification(of: index)) }
    }

    func note(_ modification: LazyObjects.Modification) {
        events.add(
            JournalRecord(
                kind: Kind.objectModified.rawValue,
                UInt64(modification.descriptor),
                UInt64(bitPattern: modification.time)
            )
        )
    }

    /// A part of the page map.
    func notePageMap(_ runs: [PageRun]) {
        var words: [UInt64] = []
        func add() {
            guard !words.isEmpty else { return }
            words += Array(repeating: 0, count: 4 - words.count)
            events.add(JournalRecord(kind: Kind.pageMapPacked.rawValue, words[0], words[1], words[2], words[3]))
            words.removeAll(keepingCapacity: true)
        }
        for run in runs {
            if let word = Self.packed(run) {
                words.append(word)
            } else {
                events.add(Self.record(.pageMapArrived, run))
            }
            if words.count == 4 { add() }
        }
        add()
    }

    func note(_ step: BooksStep, _ digest: PageDigest = PageDigest()) {
        guard !amend(with: step, digest) else { return }
        let record: JournalRecord =
            switch step {
            case .pageMapArrived(let run): Self.record(.pageMapArrived, run)
            case .pageMapCompleted: JournalRecord(kind: Kind.pageMapCompleted.rawValue)
            case .pageMapForgotten: JournalRecord(kind: Kind.pageMapForgotten.rawValue)
            case .preCopyMapArrived(let run): Self.record(.preCopyMapArrived, run)
            case .guardsArrived(let run): Self.record(.guardsArrived, run)
            case .guardsInstalled(let space, let range): Self.record(.guardsInstalled, space, range)
            case .unmapConfirmed(let space, let range): Self.record(.unmapConfirmed, space, range)
            case .spaceEnded(let space): JournalRecord(kind: Kind.spaceEnded.rawValue, space: space.number)
            case .settled(let space, let settled):
                JournalRecord(kind: Kind.settled.rawValue, space: space.number, settled.first, settled.count)
            case .arrived(let address, let first):
                JournalRecord(
                    kind: Kind.arrived.rawValue,
                    address.rawValue,
                    first.bits,
                    digest.value.high,
                    digest.value.low
                )
            }
        events.add(record)
    }

    /// Whether it was enough to change the last record: that goes for most pages.
    private func amend(with step: BooksStep, _ digest: PageDigest) -> Bool {
        guard var last = events.latest, last.kind == Kind.settled.rawValue else { return false }
        switch step {
        case .settled(let space, let settled):
            guard last.space == space.number, last.first + last.second == settled.first else { return false }
            last.second += settled.count
        case .arrived(let address, let first):
            guard last.first == address.pageNumber, last.second == UInt64(first.count),
                first.bits.trailingZeroBitCount == 0, (~first.bits).trailingZeroBitCount == first.count
            else { return false }
            last.kind = Kind.settledArrived.rawValue
            (last.third, last.fourth) = digest.value
        default: return false
        }
        events.amendLatest(last)
        return true
    }

    /// The number of the first page above 20 bits of how many there are; nil for more, and for addresses that no process has.
    private static func packed(_ run: PageRun) -> UInt64? {
        let page = run.address.pageNumber
        guard run.count < 1 << 20, page < 1 << 44 else { return nil }
        return page << 20 | run.count
    }

    private static func unpacked(_ word: UInt64) -> PageRun? {
        let count = word & (1 << 20 - 1)
        guard count > 0 else { return nil }
        return PageRun(address: VirtualAddress(pageNumber: word >> 20), count: count)
    }

    func notePoison() {
        events.add(JournalRecord(kind: Kind.poisoned.rawValue))
    }

    func note(_ stored: PageStore) {
        for block in stored.blocks { events.add(JournalRecord(kind: Kind.storedBlock.rawValue, block)) }
    }

    func notePreCopyMapCompleted() {
        events.add(JournalRecord(kind: Kind.preCopyMapCompleted.rawValue))
    }

    private static func record(_ kind: Kind, _ run: PageRun) -> JournalRecord {
        JournalRecord(kind: kind.rawValue, run.address.rawValue, run.count)
    }

    private static func record(_ kind: Kind, _ space: SpaceIdentifier, _ range: AddressRange) -> JournalRecord {
        JournalRecord(kind: kind.rawValue, space: space.number, range.lowerBound.rawValue, range.upperBound.rawValue)
    }

    /// An entry; nil for one that this program does not know.
    func entry(_ index: UInt64) -> Entry? {
        switch events[index] {
        case .event(let event, let space): .event(event, SpaceIdentifier(number: space))
        case .record(let record): Self.decode(record)
        }
    }

    private static func decode(_ record: JournalRecord) -> Entry? {
        let space = SpaceIdentifier(number: record.space)
        let run = PageRun(address: VirtualAddress(record.first), count: record.second)
        switch Kind(rawValue: record.kind) {
        case nil: return nil
        case .segment:
            let pages = record.first..<record.first + record.second
            return .segment(Segment(AddressRange(pageNumbers: pages), isInherited: record.third == 1))
        case .objectMapping:
            let pages = record.second..<record.second + record.third
            return .objectMapping(
                LazyObjects.Mapping(pages: pages, object: Int(record.first), offset: record.fourth)
            )
        case .objectModified:
            return .objectModified(
                LazyObjects.Modification(
                    descriptor: Int32(truncatingIfNeeded: record.first),
                    time: Int64(bitPattern: record.second)
                )
            )
        case .poisoned: return .poisoned
        case .storedBlock: return .storedBlock(record.first)
        case .preCopyMapArrived: return .step(.preCopyMapArrived(run), PageDigest())
        case .preCopyMapCompleted: return .preCopyMapCompleted
        case .pageMapArrived: return .step(.pageMapArrived(run), PageDigest())
        case .pageMapCompleted: return .step(.pageMapCompleted, PageDigest())
        case .pageMapForgotten: return .step(.pageMapForgotten, PageDigest())
        case .guardsArrived: return .step(.guardsArrived(run), PageDigest())
        case .guardsInstalled: return .step(.guardsInstalled(space, range(of: record)), PageDigest())
        case .unmapConfirmed: return .step(.unmapConfirmed(space, range(of: record)), PageDigest())
        case .spaceEnded: return .step(.spaceEnded(space), PageDigest())
        case .settled:
            return .step(.settled(space, SettledPages(first: record.first, count: record.second)), PageDigest())
        case .pageMapPacked:
            return .pageMap([record.first, record.second, record.third, record.fourth].compactMap(unpacked))
        case .settledArrived:
            let settled = SettledPages(first: record.first, count: record.second)
            let digest = PageDigest(count: record.second, high: record.third, low: record.fourth)
            return .settledArrived(space, settled, digest)
        case .arrived:
            let first = FirstArrivals(bits: record.second)
            let digest = PageDigest(count: UInt64(first.count), high: record.third, low: record.fourth)
            return .step(.arrived(VirtualAddress(record.first), first), digest)
        }
    }

    private static func range(of record: JournalRecord) -> AddressRange {
        AddressRange(VirtualAddress(record.first), VirtualAddress(record.second))
    }
}
