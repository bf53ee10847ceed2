// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import Userfaultfd

/// Mappings without a gap between them that are looked at in the same way.
struct ArmingPiece {
    var pages: Range<UInt64>
    var members: Range<Int>
    /// All that is there is new.
    var isFresh: Bool
}

extension WriteProtectRounds {
    /// Cuts a span at its gaps, where another mapping may appear at any time, and where registered mappings meet new ones.
    func pieces(
        of span: MappingSpan,
        in mappings: TrackedMappings,
        _ sorted: SortedMembers
    ) -> [ArmingPiece] {
        var pieces: [ArmingPiece] = []
        for index in span.members where !sorted.others.contains(index) {
            let pages = mappings.list[index].range.pageNumbers
            let isFresh = sorted.fresh.contains(index)
            if let last = pieces.last, last.pages.upperBound == pages.lowerBound, last.isFresh == isFresh,
                last.members.upperBound == index
            {
                pieces[pieces.count - 1].pages = last.pages.lowerBound..<pages.upperBound
                pieces[pieces.count - 1].members = last.members.lowerBound..<index + 1
            } else {
                pieces.append(ArmingPiece(pages: pages, members: index..<index + 1, isFresh: isFresh))
            }
        }
        return pieces
    }

    /// Arms what was written, or all that is there, and reports it.
    ///
    /// - Parameter failed: receives what could not be armed, because mappings were replaced meanwhile. A part of it may be as it was and
    ///   have marks from before, so it has to be looked at as new.
    func arm(
        _ piece: ArmingPiece,
        _ content: MappingContent,
        in mappings: TrackedMappings,
        _ round: inout TrackerRound,
        _ failed: inout MovedRanges
    ) throws(TrackingError) {
        if piece.isFresh { round.dropped.formUnion(reported, in: piece.pages) }
        let query = piece.isFresh ? queries.data(content) : queries.writtenData(content)
        switch arming {
        case .ioctl: try armByCall(piece, query, in: mappings, &round, &failed)
        case .scan where piece.isFresh: try armFresh(piece, content, &round, &failed)
        case .scan: _ = try armByScan(piece, content, query, &round)
        }
    }

    /// Marks may be left from a registration that a mapping has lost.
    ///
    /// Such pages look armed, but can be written to: their marks are taken off and set anew.
    private func armFresh(
        _ piece: ArmingPiece,
        _ content: MappingContent,
        _ round: inout TrackerRound,
        _ failed: inout MovedRanges
    ) throws(TrackingError) {
        let query = queries.data(content)
        let marked = try armByScan(piece, content, query, &round)
        var rest = piece.pages
        while let run = marked.nextRun(in: rest) {
            rest = run.upperBound..<rest.upperBound
            if try setMarks(AddressRange(pageNumbers: run), armed: false) {
                try scan(run, query.arming(checking: false)) { _, _ in }
            } else {
                round.written.remove(run)
                failed.insert(AddressRange(pageNumbers: run))
            }
        }
    }

    /// Returns pages that were marked before.
    private func armByScan(
        _ piece: ArmingPiece,
        _ content: MappingContent,
        _ query: PageQuery,
        _ round: inout TrackerRound
    ) throws(TrackingError) -> PageSet {
        var marked = PageSet()
        func report(_ pages: Range<UInt64>, _ categories: PageCategories) {
            round.written.insert(pages)
            if !categories.contains(.written) { marked.insert(pages) }
        }
        do {
            try view.scan(piece.pages, query.arming(checking: true), report)
        } catch {
            guard error.cause?.errno == .perm else { throw failure(error, "look at the pages of") }
            // A mapping was replaced meanwhile. What the call that failed had armed it did not report, so all pages count as
            // written; those of the new mapping are skipped, and found unregistered in the next round.
            round.dropped.formUnion(reported, in: piece.pages)
            try scan(piece.pages, queries.data(content).arming(checking: false), report)
        }
        return marked
    }

    private func armByCall(
        _ piece: ArmingPiece,
        _ query: PageQuery,
        in mappings: TrackedMappings,
        _ round: inout TrackerRound,
        _ failed: inout MovedRanges
    ) throws(TrackingError) {
        var found = PageSet()
        try scan(piece.pages, query) { pages, _ in found.insert(pages) }
        for index in piece.members {
            // Older kernels take a range within one mapping only.
            var rest = mappings.list[index].range.pageNumbers
            while let run = found.nextRun(in: rest) {
                rest = run.upperBound..<rest.upperBound
                if try setMarks(AddressRange(pageNumbers: run), armed: true) {
                    round.written.insert(run)
                } else {
                    round.dropped.formUnion(reported, in: run)
                    failed.insert(AddressRange(pageNumbers: run))
                }
            }
        }
    }

    /// How long a change of the address space may be in the way; each is over as soon as its message has been read.
    private static var changeTime: Duration { .seconds(10) }

    /// False when the range is not registered any more.
    private func setMarks(_ range: AddressRange, armed: Bool) throws(TrackingError) -> Bool {
        let deadline = Deadline.after(Self.changeTime)
        while !deadline.hasPassed {
            let outcome = try TrackingError.translatingCall(pid, "track the writes of") { () throws(SystemCallError) in
                try uffd.writeProtect(range, armed: armed)
            }
            switch outcome {
            case .installed: return true
            case .vanished, .alreadyPresent: return false
            case .targetGone: try checkAlive()
            case .interrupted, .partial: usleep(20)
            }
        }
        throw TrackingError(.tryAgain, "process \(pid) changes its mappings faster than they are looked at: try again")
    }
}
