// SPDX-License-Identifier: Apache-2.0

/// The secret that ties the connections of one session together: 32 random bytes that the source makes.
public struct SessionIdentifier: Sendable, CustomStringConvertible {
    /// Bytes of an identifier.
    public static let byteCount = 32
    /// All zeros: no session yet.
    ///
    /// What the greeting of a control connection carries.
    public static let none = SessionIdentifier(words: (0, 0, 0, 0))

    private let words: (UInt64, UInt64, UInt64, UInt64)

    private init(words: (UInt64, UInt64, UInt64, UInt64)) {
        self.words = words
    }

    /// Takes 32 bytes; nil for any other number.
    public init?(bytes: Span<UInt8>) {
        guard bytes.count == Self.byteCount else { return nil }
        self.init(decoding: bytes, at: 0)
    }

    /// Takes 32 bytes; nil for any other number.
    public init?(bytes: [UInt8]) {
        self.init(bytes: bytes.span)
    }

    init(decoding bytes: Span<UInt8>, at offset: Int) {
        self.init(
            words: (
                bytes.uint64(at: offset), bytes.uint64(at: offset + 8), bytes.uint64(at: offset + 16),
                bytes.uint64(at: offset + 24)
            )
        )
    }

    /// The 32 bytes.
    public var bytes: [UInt8] {
        var result: [UInt8] = []
        for word in [words.0, words.1, words.2, words.3] { result.append(littleEndian: word) }
        return result
    }

    /// Never shows the secret, so that it cannot get into a log.
    public var description: String {
        self == Self.none ? "no session" : "a session"
    }
}

extension SessionIdentifier: Hashable {
    /// Compares all bytes, whatever the first ones are, so that time tells nothing about the secret.
    public static func == (left: Self, right: Self) -> Bool {
        let difference =
            (left.words.0 ^ right.words.0) | (left.words.1 ^ right.words.1) | (left.words.2 ^ right.words.2)
            | (left.words.3 ^ right.words.3)
        return difference == 0
    }

    /// Feeds all bytes.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(words.0)
        hasher.combine(words.1)
        hasher.combine(words.2)
        hasher.combine(words.3)
    }
}
