// SPDX-License-Identifier: Apache-2.0

/// Reads numbers and words from the text of `/proc`; never traps, whatever the text is.
struct ByteCursor {
    private let bytes: ArraySlice<UInt8>
    private var index: Int

    init(_ bytes: ArraySlice<UInt8>) {
        self.bytes = bytes
        self.index = bytes.startIndex
    }

    init(_ text: [UInt8]) {
        self.init(text[...])
    }

    /// What has not been read yet.
    var rest: ArraySlice<UInt8> {
        bytes[index...]
    }

    var isAtEnd: Bool {
        index >= bytes.endIndex
    }

    var peek: UInt8? {
        index < bytes.endIndex ? bytes[index] : nil
    }

    /// Consumes `byte` if it comes next.
    mutating func skip(_ byte: UInt8) -> Bool {
        guard peek == byte else { return false }
        index += 1
        return true
    }

    /// Consumes `text` if it comes next.
    mutating func skip(_ text: StaticString) -> Bool {
        let count = text.utf8CodeUnitCount
        guard bytes.endIndex - index >= count else { return false }
        let matches = rest.prefix(count).elementsEqual("\(text)".utf8)
        if matches { index += count }
        return matches
    }

    mutating func skipBlanks() {
        while let byte = peek, byte == .space || byte == .tab { index += 1 }
    }

    /// The bytes up to the next blank or the end.
    mutating func word() -> ArraySlice<UInt8> {
        let start = index
        while let byte = peek, byte != .space, byte != .tab { index += 1 }
        return bytes[start..<index]
    }

    /// An unsigned number without sign or prefix, nil when there is none or it needs more than 64 bits.
    mutating func number(radix: UInt64 = 10) -> UInt64? {
        var value: UInt64 = 0
        let start = index
        while let byte = peek, let digit = Self.digit(byte), digit < radix {
            let (product, overflow) = value.multipliedReportingOverflow(by: radix)
            let (sum, carry) = product.addingReportingOverflow(digit)
            guard !overflow, !carry else { return nil }
            value = sum
            index += 1
        }
        return index > start ? value : nil
    }

    mutating func hexadecimal() -> UInt64? {
        number(radix: 16)
    }

    /// A number that may begin with `-`; unsigned ones above `Int64.max` keep their bits.
    mutating func signedBits() -> UInt64? {
        let negative = skip(UInt8(ascii: "-"))
        guard let magnitude = number() else { return nil }
        return negative ? 0 &- magnitude : magnitude
    }

    private static func digit(_ byte: UInt8) -> UInt64? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt64(byte - UInt8(ascii: "0"))
        case UInt8(ascii: "a")...UInt8(ascii: "f"): UInt64(byte - UInt8(ascii: "a")) + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): UInt64(byte - UInt8(ascii: "A")) + 10
        default: nil
        }
    }
}

extension UInt8 {
    static let newline = UInt8(ascii: "\n")
    static let space = UInt8(ascii: " ")
    static let tab = UInt8(ascii: "\t")
    static let colon = UInt8(ascii: ":")
}

extension Collection where Element == UInt8 {
    /// The lines without their ends; a last line without an end counts.
    var lines: [SubSequence] {
        split(separator: .newline, omittingEmptySubsequences: true)
    }

    /// As text, wrong UTF-8 repaired.
    var text: String {
        String(decoding: self, as: UTF8.self)
    }
}

extension TraceError {
    /// A line that is not understood, quoted.
    static func malformed(_ file: String, _ line: some Collection<UInt8>) -> TraceError {
        TraceError(.malformed, "\"\(file)\" holds a line that is not understood: \"\(line.prefix(200).text)\"")
    }
}
