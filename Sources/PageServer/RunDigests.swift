// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import PageWire
internal import Paging

/// The digests of the pages of one run, made once, when they have been read: a frame carries the sum over its pages, and the ledger
/// counts each page by its own.
struct RunDigests {
    /// One for each page of the longest run, kept so that nothing is allocated for a fault.
    private var digests = [PageDigest](repeating: PageDigest(), count: Int(PageProtocol.maximumPages))

    /// Makes the digests of some pages of a run.
    ///
    /// - Parameters:
    ///   - indices: of the pages, within the run.
    ///   - first: number of the first page of the run.
    ///   - mask: one bit a page of the run: set when it holds data, clear when it is zeros.
    ///   - buffer: holds the run from `offset` on.
    /// - Returns: the digest over these pages.
    @discardableResult
    mutating func make(
        _ indices: Range<Int>,
        from first: UInt64,
        _ mask: UInt64,
        _ buffer: TransferBuffer,
        at offset: Int
    ) -> PageDigest {
        for index in indices {
            let address = VirtualAddress(pageNumber: first + UInt64(index))
            var digest = PageDigest()
            if mask & (1 << UInt64(index)) == 0 {
                digest.addZeros(address: address)
            } else {
                digest.add(address: address, from: buffer, at: offset + index * PageSize.baseBytes)
            }
            digests[index] = digest
        }
        return sum(of: indices)
    }

    /// The digest of a page, made before.
    subscript(index: Int) -> PageDigest { digests[index] }

    /// The digest over pages, made before.
    func sum(of indices: Range<Int>) -> PageDigest {
        var sum = PageDigest()
        for index in indices { sum.add(digests[index]) }
        return sum
    }
}
