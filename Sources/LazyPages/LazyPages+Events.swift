// SPDX-License-Identifier: Apache-2.0
public import Paging

/// What to do after an unmapping has been entered.
public enum UnmapAction: Hashable, Sendable {
    /// Wake the range.
    case wake
    /// Wake the range, and ask the kernel (`/proc/PID/smaps`) which parts of it are **not** in a mapping registered
    /// with userfaultfd; report each by ``LazyPages/unmapConfirmed(_:_:)``.
    ///
    /// Two threads that unmap and move at a time report in any order: a block that mremap(2) put where the kernel had
    /// just unmapped something may be reported before the unmapping is. Taking that at its word would turn the block
    /// into zeros.
    case confirm
}

// Events of the address space. The kernel holds the calling thread until its event has been read, and refuses installs
// meanwhile.
extension LazyPages {
    /// UFFD_EVENT_REMOVE: the application gave the contents of `range` back; it reads zeros from now on.
    ///
    /// Wake the range afterwards.
    public mutating func removed(_ space: SpaceIdentifier, _ range: AddressRange) {
        guard let index = index(of: space) else { return }
        var rest = range.pageNumbers
        while let piece = spaces[index].segments.firstPiece(in: rest) {
            drop(piece, in: index)
            rest = piece.destinationPages.upperBound..<rest.upperBound
        }
    }

    /// UFFD_EVENT_UNMAP: `range` is no longer mapped, or something else is mapped there.
    ///
    /// - Returns: Whether parts of it have to be looked at.
    public mutating func unmapped(_ space: SpaceIdentifier, _ range: AddressRange) -> UnmapAction {
        guard let index = index(of: space) else { return .wake }
        var action = UnmapAction.wake
        var rest = range.pageNumbers
        while let piece = spaces[index].segments.firstPiece(in: rest) {
            if piece.isMoved {
                action = .confirm
            } else {
                cut(piece.destinationPages, in: index)
            }
            rest = piece.destinationPages.upperBound..<rest.upperBound
        }
        return action
    }

    /// The kernel says that no registered mapping holds `range`.
    public mutating func unmapConfirmed(_ space: SpaceIdentifier, _ range: AddressRange) {
        guard let index = index(of: space) else { return }
        cut(range.pageNumbers, in: index)
    }

    /// UFFD_EVENT_REMAP: `length` bytes at `from` are now at `to`.
    ///
    /// Wake both ranges afterwards.
    public mutating func remapped(
        _ space: SpaceIdentifier,
        from: VirtualAddress,
        to: VirtualAddress,
        length: UInt64
    ) {
        guard let index = index(of: space), length > 0 else { return }
        let count = (length + PageSize.base - 1) / PageSize.base
        let old = from.pageNumber..<from.pageNumber + count
        var moved: [Segment] = []
        while let piece = spaces[index].segments.cutFirstPiece(in: old) {
            moved.append(piece)
        }
        cut(to.pageNumber..<to.pageNumber + count, in: index)
        for var segment in moved {
            segment.start = to.pageNumber + (segment.start - from.pageNumber)
            segment.isMoved = true
            spaces[index].segments.insert(segment)
        }
    }

    /// UFFD_EVENT_FORK: a child of `space` exists, with a userfaultfd of its own; it is owed what its parent is.
    ///
    /// - Returns: The identifier of the child, or nil when the parent has ended.
    public mutating func forked(_ space: SpaceIdentifier) -> SpaceIdentifier? {
        guard let index = index(of: space) else { return nil }
        var child = spaces[index]
        child.identifier = makeIdentifier()
        child.streams = AccessStreams()
        spaces.append(child)
        for segment in child.segments.byDestination where !segment.isInherited {
            cut(segment.destinationPages, in: spaces.count - 1)
        }
        return child.identifier
    }

    /// An address space is gone: its last process ended or ran another program (ESRCH).
    public mutating func spaceEnded(_ space: SpaceIdentifier) {
        guard let index = index(of: space) else { return }
        spaces.remove(at: index)
    }

    /// Makes a piece of a segment zeros.
    private mutating func drop(_ piece: Segment, in index: Int) {
        let pages = piece.sourcePages
        guard isMapComplete else {
            // A mark at the segment takes no memory, and 2 MiB pieces cannot become many.
            if piece.count >= 512 {
                _ = spaces[index].segments.cutFirstPiece(in: piece.destinationPages)
                var dropped = piece
                dropped.isDropped = true
                spaces[index].segments.insert(dropped)
            } else {
                spaces[index].dropped.insert(pages)
            }
            return
        }
        spaces[index].owed.remove(pages)
        var rest = pages
        while let run = map.nextRun(in: rest) {
            spaces[index].dropped.insert(run)
            rest = run.upperBound..<pages.upperBound
        }
    }

    /// Takes pages of an address space out of all segments.
    private mutating func cut(_ pages: Range<UInt64>, in index: Int) {
        while let piece = spaces[index].segments.cutFirstPiece(in: pages) {
            spaces[index].owed.remove(piece.sourcePages)
            spaces[index].dropped.remove(piece.sourcePages)
            spaces[index].settled.remove(piece.sourcePages)
            spaces[index].guards.remove(piece.sourcePages)
            spaces[index].doubtful.remove(piece.sourcePages)
        }
    }
}
