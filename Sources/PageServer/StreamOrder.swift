// SPDX-License-Identifier: Apache-2.0
internal import Paging

/// Which pages the stream sends before the others: those around what threads have just needed.
///
/// A program that needs one page of a piece of memory is likely to need its neighbours soon, in whatever order. (One that walks has asked
/// for its next pages itself; those are requests of several pages, which are no sign here.) The latest comes first; what has waited
/// behind too many others is forgotten, and comes in its turn.
///
/// A pure value, in numbers of pages (address >> 12).
struct StreamOrder {
    /// Pages of one piece, aligned to as many: 256 KiB, one frame of the stream.
    static let piece: UInt64 = 64
    /// The most pieces that are remembered.
    static let maximumPieces = 64

    /// The pieces by the number of their first page, the one to be sent next last.
    private var pieces: [UInt64] = []

    init() {
        pieces.reserveCapacity(Self.maximumPieces)
    }

    /// A thread has needed a page.
    mutating func needed(_ page: UInt64) {
        let piece = page & ~(Self.piece - 1)
        guard piece != pieces.last else { return }
        if let index = pieces.firstIndex(of: piece) {
            pieces.remove(at: index)
        } else if pieces.count == Self.maximumPieces {
            pieces.removeFirst()
        }
        pieces.append(piece)
    }

    /// Takes a run of pages that is to be sent now; nil when no piece is better than another.
    ///
    /// - Parameter unsent: what has not been sent; the caller removes what is returned.
    mutating func next(of unsent: borrowing PageSet) -> Range<UInt64>? {
        while let piece = pieces.last {
            if let run = unsent.nextRun(in: piece..<piece + Self.piece) { return run }
            pieces.removeLast()
        }
        return nil
    }
}
