// SPDX-License-Identifier: Apache-2.0
internal import Glibc

extension TransferBuffer {
    /// Whether all bytes of a range are zero; the range is not empty.
    public func isZero(_ range: Range<Int>) -> Bool {
        // SAFETY: pointer(at:count:) checks the range; the mapping outlives the call.
        let start = unsafe pointer(at: range.lowerBound, count: range.count)
        guard unsafe start.load(as: UInt8.self) == 0 else { return false }
        // SAFETY: both operands lie in the range; a range that equals itself shifted by one byte repeats its first byte.
        return unsafe range.count == 1 || memcmp(start, start + 1, range.count - 1) == 0
    }
}
