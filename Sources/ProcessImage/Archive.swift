// SPDX-License-Identifier: Apache-2.0
//
// Fields are named as in proc(5) and in the calls that set them; those that need more words have them.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// A value with one list of fields, walked alike by the encoder and the decoder, so the two cannot differ.
public protocol ArchivedValue: Sendable {
    /// An empty value for the decoder to fill.
    init()

    /// Passes each field to `archive`, in the order of the encoding.
    mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError)
}

/// Something that walks the fields of ``ArchivedValue``: ``ArchiveEncoder`` or ``ArchiveDecoder``.
///
/// All numbers are little-endian; a count is a `UInt32`, checked against what is left of the input before anything is allocated.
public protocol Archive {
    /// One integer of its own width, at most 64 bits.
    mutating func field<Number: FixedWidthInteger & Sendable>(_ number: inout Number) throws(ProcessImageError)
    /// A count and that many bytes.
    mutating func field(_ bytes: inout [UInt8]) throws(ProcessImageError)
}

extension Archive {
    /// A `Bool` as one byte, 0 or 1.
    public mutating func field(_ flag: inout Bool) throws(ProcessImageError) {
        var byte: UInt8 = flag ? 1 : 0
        try field(&byte)
        guard byte <= 1 else { throw ProcessImageError("a flag that is neither 0 nor 1 but \(byte)") }
        flag = byte == 1
    }

    /// A text as UTF-8 bytes; bytes that are no UTF-8 (a path may have them) are refused when the process is examined.
    public mutating func field(_ text: inout String) throws(ProcessImageError) {
        var bytes = Array(text.utf8)
        try field(&bytes)
        guard let decoded = String(validating: bytes, as: UTF8.self) else {
            throw ProcessImageError("a text that is not UTF-8")
        }
        text = decoded
    }

    /// A nested value.
    public mutating func field<Value: ArchivedValue>(_ value: inout Value) throws(ProcessImageError) {
        try value.visit(&self)
    }

    /// An enumeration by its raw value.
    public mutating func field<Value: RawRepresentable & Sendable>(
        _ value: inout Value
    ) throws(ProcessImageError) where Value.RawValue: FixedWidthInteger & Sendable {
        var raw = value.rawValue
        try field(&raw)
        guard let decoded = Value(rawValue: raw) else { throw ProcessImageError("an unknown \(Value.self): \(raw)") }
        value = decoded
    }

    /// A byte that tells whether a value follows.
    public mutating func field<Value: ArchivedValue>(_ value: inout Value?) throws(ProcessImageError) {
        var present = value != nil
        try field(&present)
        guard present else {
            value = nil
            return
        }
        var inner = value ?? Value()
        try inner.visit(&self)
        value = inner
    }

    /// A count and that many values.
    public mutating func field<Value: ArchivedValue>(_ values: inout [Value]) throws(ProcessImageError) {
        var count = try count(of: values.count)
        try field(&count)
        for index in 0..<Int(count) {
            if index == values.count { values.append(Value()) }
            try values[index].visit(&self)
        }
    }

    /// A count and that many integers.
    public mutating func field<Number: FixedWidthInteger & Sendable>(_ numbers: inout [Number])
        throws(ProcessImageError)
    {
        var count = try count(of: numbers.count)
        try field(&count)
        for index in 0..<Int(count) {
            if index == numbers.count { numbers.append(0) }
            try field(&numbers[index])
        }
    }

    private func count(of number: Int) throws(ProcessImageError) -> UInt32 {
        guard let count = UInt32(exactly: number) else { throw ProcessImageError("a list of \(number) elements") }
        return count
    }
}

/// Writes values into bytes.
public struct ArchiveEncoder: Archive {
    /// What has been written so far.
    public private(set) var bytes: [UInt8] = []

    /// An encoder that has written nothing.
    public init() {}

    /// The bytes of one value.
    public static func encode<Value: ArchivedValue>(_ value: Value) throws(ProcessImageError) -> [UInt8] {
        var encoder = Self()
        var copy = value
        try copy.visit(&encoder)
        return encoder.bytes
    }

    /// Appends an integer.
    public mutating func field<Number: FixedWidthInteger & Sendable>(_ number: inout Number) throws(ProcessImageError) {
        append(UInt64(truncatingIfNeeded: number), byteCount: Number.bitWidth / 8)
    }

    /// Not generic: a shift of a generic integer is a dozen calls, and a description has ten thousand bytes for each ten threads.
    private mutating func append(_ word: UInt64, byteCount: Int) {
        for index in 0..<byteCount { bytes.append(UInt8(truncatingIfNeeded: word >> (8 * index))) }
    }

    /// Appends a count and bytes.
    public mutating func field(_ content: inout [UInt8]) throws(ProcessImageError) {
        guard var count = UInt32(exactly: content.count) else {
            throw ProcessImageError("\(content.count) bytes in one field")
        }
        try field(&count)
        bytes.append(contentsOf: content)
    }
}

/// Reads values from bytes that came from outside: whatever they hold, the answer is a value or an error.
public struct ArchiveDecoder: Archive {
    private let bytes: [UInt8]
    private var offset = 0

    /// A decoder at the start of `bytes`.
    public init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// Decodes one value that takes up all of `bytes`.
    public static func decode<Value: ArchivedValue>(_: Value.Type, from bytes: [UInt8]) throws(ProcessImageError)
        -> Value
    {
        var decoder = Self(bytes)
        var value = Value()
        try value.visit(&decoder)
        guard decoder.offset == bytes.count else {
            throw ProcessImageError("\(bytes.count - decoder.offset) bytes behind the end", offset: decoder.offset)
        }
        return value
    }

    /// Reads an integer.
    public mutating func field<Number: FixedWidthInteger & Sendable>(_ number: inout Number) throws(ProcessImageError) {
        number = Number(truncatingIfNeeded: try word(byteCount: Number.bitWidth / 8))
    }

    private mutating func word(byteCount: Int) throws(ProcessImageError) -> UInt64 {
        guard bytes.count - offset >= byteCount else {
            throw ProcessImageError("the end inside of a number", offset: offset)
        }
        var word: UInt64 = 0
        for index in 0..<byteCount { word |= UInt64(bytes[offset + index]) << (8 * index) }
        offset += byteCount
        return word
    }

    /// Reads a count and bytes; a count above what is left is refused before anything is allocated.
    public mutating func field(_ content: inout [UInt8]) throws(ProcessImageError) {
        var count: UInt32 = 0
        try field(&count)
        guard bytes.count - offset >= Int(count) else {
            throw ProcessImageError("a field of \(count) bytes where \(bytes.count - offset) are left", offset: offset)
        }
        content = Array(bytes[offset..<offset + Int(count)])
        offset += Int(count)
    }
}

/// A process description that does not parse, or cannot be written.
public struct ProcessImageError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was found.
    public let found: String
    /// Where, in bytes from the start, when that is known.
    public let offset: Int?

    /// Describes what was found.
    public init(_ found: String, offset: Int? = nil) {
        self.found = found
        self.offset = offset
    }

    /// One sentence.
    public var description: String {
        "the process description holds \(found)" + (offset.map { " (byte \($0))" } ?? "")
    }
}
