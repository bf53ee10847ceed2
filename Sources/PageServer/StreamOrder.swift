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
    static var maximumPieces: Int { 64 }

    /// The pieces by the number of their first page, the one to be sent next last.
    private var pieces = InlineArray<64, UInt64>(repeating: 0)
    private var count = 0

    /// A thread has needed a page.
    ///
    /// Allocates nothing.
    mutating func needed(_ page: UInt64) {
        let piece = page & ~(Self.piece - 1)
        var index = 0
        while index < count, pieces[index] != piece { index += 1 }
        if index == count {
            // Another one, or one in place of the oldest.
            if count < Self.maximumPieces { count += 1 } else { index = 0 }
        }
        while index < count - 1 {
            pieces[index] = pieces[index + 1]
            index += 1
        }
        pieces[count - 1] = piece
    }

    /// Takes a run of pages that is to be sent now; nil when no piece is better than another.
    ///
    /// - Parameter unsent: what has not been sent; the caller removes what is returned.
    mutating func next(of unsent: borrowing PageSet) -> Range<UInt64>? {
        while count > 0 {
            let piece = pieces[count - 1]
            if let run = unsent.nextRun(in: piece..<piece + Self.piece) { return run }
            count -= 1
        }
        return nil
    }
}
