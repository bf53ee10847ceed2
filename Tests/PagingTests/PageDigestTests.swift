// SPDX-License-Identifier: Apache-2.0
import Paging
import TestSupport
import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct PageDigestTests {
    private static func page(_ seed: UInt64) -> [UInt8] {
        var random = SeededGenerator(seed: seed)
        return (0..<4096).map { _ in UInt8.random(in: 0...255, using: &random) }
    }

    private static func digest(_ pages: [(address: UInt64, bytes: [UInt8])]) -> PageDigest {
        var digest = PageDigest()
        for page in pages { digest.add(address: VirtualAddress(page.address), page: page.bytes.span) }
        return digest
    }

    @Test func theOrderDoesNotMatter() {
        let pages = (0..<20).map { (address: UInt64($0) << 12, bytes: Self.page(UInt64($0))) }
        let digest = Self.digest(pages)
        #expect(digest.count == 20)
        #expect(Self.digest(pages.reversed()) == digest)
        var halves = Self.digest(Array(pages[7...]))
        halves.add(Self.digest(Array(pages[..<7])))
        #expect(halves == digest)
    }

    @Test func everyBitAndTheAddressMatter() {
        let bytes = Self.page(1)
        var seen: Set<PageDigest> = [Self.digest([(0x1000, bytes)]), Self.digest([(0x2000, bytes)])]
        for position in 0..<4096 {
            var altered = bytes
            altered[position] ^= 1 << UInt8(position % 8)
            seen.insert(Self.digest([(0x1000, altered)]))
        }
        #expect(seen.count == 4098)
    }

    @Test func exchangedMissingAndRepeatedPagesShow() {
        let a = Self.page(1)
        let b = Self.page(2)
        let right = Self.digest([(0x1000, a), (0x2000, b)])
        #expect(Self.digest([(0x1000, b), (0x2000, a)]) != right)
        #expect(Self.digest([(0x1000, a)]) != right)
        #expect(Self.digest([(0x1000, a), (0x2000, b), (0x2000, b)]) != right)
        #expect(Self.digest([(0x1000, a), (0x1000, a)]) != Self.digest([(0x1000, b), (0x1000, b)]))
    }

    @Test func exchangedWordsOfAPageShow() {
        var seen: Set<PageDigest> = []
        for first in stride(from: 0, to: 4096, by: 512) {
            for second in stride(from: 0, to: 4096, by: 8) {
                var bytes = [UInt8](repeating: 0, count: 4096)
                bytes[first] = 1
                bytes[second] |= 2
                seen.insert(Self.digest([(0x1000, bytes)]))
            }
        }
        #expect(seen.count == 8 * 512)
    }

    @Test func zerosAreAddedWithoutBytes() {
        var short = PageDigest()
        short.addZeros(address: VirtualAddress(0x7000))
        #expect(short == Self.digest([(0x7000, [UInt8](repeating: 0, count: 4096))]))
        var other = PageDigest()
        other.addZeros(address: VirtualAddress(0x8000))
        #expect(short != other)
    }

    @Test func aPageInTheMiddleOfABufferIsThatPage() {
        let bytes = Self.page(3)
        let buffer = [UInt8](repeating: 9, count: 32) + bytes + [1, 2]
        var digest = PageDigest()
        digest.add(address: VirtualAddress(0x3000), page: buffer.span, at: 32)
        #expect(digest == Self.digest([(0x3000, bytes)]))
    }

    /// The digest is part of the page protocol: another value is another version.
    @Test func theValueIsFixed() {
        var digest = PageDigest()
        #expect(digest.description == "00000000000000000000000000000000")
        digest.addZeros(address: VirtualAddress(0))
        #expect(digest.description == "07927245136d97dceca3dd22dba0d11b")
        let counting = (0..<4096).map { UInt8(truncatingIfNeeded: $0) }
        digest.add(address: VirtualAddress(0x1000), page: counting.span)
        #expect(digest.description == "e8d66e5a3911da97c29149225b748bc5")
        let copy = PageDigest(count: 2, high: digest.value.high, low: digest.value.low)
        #expect(copy == digest)
    }
}
