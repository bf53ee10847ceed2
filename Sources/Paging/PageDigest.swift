// SPDX-License-Identifier: Apache-2.0

/// A digest of pages and their addresses that does not depend on the order in which they come.
///
/// The hash of a page is keyed with its address and the hashes are added up, so two ends that saw the same pages in
/// different orders agree, and a page that is missing, counted twice, altered or exchanged with another shows. It finds
/// mistakes; against an adversary pages are protected by TLS.
public struct PageDigest: Hashable, Sendable {
    /// Pages added.
    public private(set) var count: UInt64 = 0
    /// The upper and lower 64 bits of the sum, wrapping at 128.
    public var value: (high: UInt64, low: UInt64) {
        (high, low)
    }

    private var high: UInt64 = 0
    private var low: UInt64 = 0

    /// The digest of no pages.
    public init() {}

    /// The digest that another side has computed.
    public init(count: UInt64, high: UInt64, low: UInt64) {
        self.count = count
        self.high = high
        self.low = low
    }

    /// Adds one page.
    ///
    /// - Parameters:
    ///   - address: Where the page belongs in the process, in bytes.
    ///   - page: 4096 bytes; anything else is a bug of the caller and traps.
    public mutating func add(address: VirtualAddress, page: Span<UInt8>) {
        add(address: address, page: page, at: 0)
    }

    /// Adds the page that lies at `offset` in `bytes`.
    public mutating func add(address: VirtualAddress, page bytes: Span<UInt8>, at offset: Int) {
        precondition(offset >= 0 && offset <= bytes.count - PageSize.baseBytes, "PageDigest: less than a page")
        var mixer = Mixer(address: address.rawValue)
        var position = offset
        for _ in 0..<(PageSize.baseBytes / Mixer.stripeBytes) {
            let stripe = bytes.extracting(position..<position &+ Mixer.stripeBytes)
            mixer.mix(
                Self.word(stripe, 0),
                Self.word(stripe, 8),
                Self.word(stripe, 16),
                Self.word(stripe, 24),
                Self.word(stripe, 32),
                Self.word(stripe, 40),
                Self.word(stripe, 48),
                Self.word(stripe, 56)
            )
            position &+= Mixer.stripeBytes
        }
        add(mixer.finish())
    }

    /// Adds one page that is all zeros; the same as adding 4096 bytes of zeros.
    public mutating func addZeros(address: VirtualAddress) {
        var mixer = Mixer(address: address.rawValue)
        for _ in 0..<(PageSize.baseBytes / Mixer.stripeBytes) {
            mixer.mix(0, 0, 0, 0, 0, 0, 0, 0)
        }
        add(mixer.finish())
    }

    /// Adds all pages that another digest has seen, so that each thread can keep its own.
    public mutating func add(_ other: PageDigest) {
        count &+= other.count
        sum(other.high, other.low)
    }

    private mutating func add(_ hash: (high: UInt64, low: UInt64)) {
        count &+= 1
        sum(hash.high, hash.low)
    }

    private mutating func sum(_ otherHigh: UInt64, _ otherLow: UInt64) {
        let (sum, carry) = low.addingReportingOverflow(otherLow)
        low = sum
        high = high &+ otherHigh &+ (carry ? 1 : 0)
    }

    /// Eight bytes, little-endian.
    @inline(__always)
    private static func word(_ bytes: Span<UInt8>, _ at: Int) -> UInt64 {
        let low =
            UInt64(bytes[at]) | UInt64(bytes[at &+ 1]) << 8 | UInt64(bytes[at &+ 2]) << 16 | UInt64(bytes[at &+ 3])
            << 24
        let high =
            UInt64(bytes[at &+ 4]) | UInt64(bytes[at &+ 5]) << 8 | UInt64(bytes[at &+ 6]) << 16 | UInt64(bytes[at &+ 7])
            << 24
        return low | high << 32
    }
}

extension PageDigest: CustomStringConvertible {
    /// The sum as 32 hexadecimal digits.
    public var description: String {
        Self.hexadecimal(high) + Self.hexadecimal(low)
    }

    private static func hexadecimal(_ word: UInt64) -> String {
        let digits = String(word, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}

/// Four lanes of multiply-and-fold over stripes of 64 bytes, keyed with an address.
struct Mixer {
    static let stripeBytes = 64

    // Odd constants with many changes of bit: the fractional parts of the square roots of the first primes, made odd.
    private static let keys: (UInt64, UInt64, UInt64, UInt64) = (
        0x6a09_e667_f3bc_c909, 0xbb67_ae85_84ca_a73b, 0x3c6e_f372_fe94_f82b, 0xa54f_f53a_5f1d_36f1
    )

    private var lane0: UInt64
    private var lane1: UInt64
    private var lane2: UInt64
    private var lane3: UInt64

    init(address: UInt64) {
        let seed = Self.fold(address ^ Self.keys.0, Self.keys.1)
        lane0 = seed ^ Self.keys.0
        lane1 = seed ^ Self.keys.1
        lane2 = seed ^ Self.keys.2
        lane3 = seed ^ Self.keys.3
    }

    /// Mixes eight words in; each lane depends on all words it has seen and on their order.
    @inline(__always)
    mutating func mix(
        _ w0: UInt64,
        _ w1: UInt64,
        _ w2: UInt64,
        _ w3: UInt64,
        _ w4: UInt64,
        _ w5: UInt64,
        _ w6: UInt64,
        _ w7: UInt64
    ) {
        lane0 = Self.fold(w0 ^ Self.keys.1, w1 ^ lane0)
        lane1 = Self.fold(w2 ^ Self.keys.2, w3 ^ lane1)
        lane2 = Self.fold(w4 ^ Self.keys.3, w5 ^ lane2)
        lane3 = Self.fold(w6 ^ Self.keys.0, w7 ^ lane3)
    }

    /// 128 bits of all four lanes.
    func finish() -> (high: UInt64, low: UInt64) {
        let a = Self.fold(lane0 ^ Self.keys.2, lane1 ^ Self.keys.3)
        let b = Self.fold(lane2 ^ Self.keys.0, lane3 ^ Self.keys.1)
        let high = Self.fold(a ^ Self.keys.1, b ^ lane0 ^ Self.keys.2)
        let low = Self.fold(b ^ Self.keys.3, a ^ lane3 ^ Self.keys.0)
        return (high, low)
    }

    /// The product in 128 bits, its halves folded onto each other, plus the factors so that a zero factor forgets
    /// nothing.
    @inline(__always)
    private static func fold(_ a: UInt64, _ b: UInt64) -> UInt64 {
        let product = a.multipliedFullWidth(by: b)
        return (product.high ^ product.low) &+ (a ^ (b << 32 | b >> 32))
    }
}
