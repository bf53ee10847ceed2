// SPDX-License-Identifier: Apache-2.0

/// A JSON value, to read status lines and statistics as a user's script would.
public indirect enum JSONValue: Equatable, Sendable {
    case null
    case bool(Bool)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])

    /// Parses one value that takes up the whole text.
    public init(parsing text: String) throws {
        var parser = JSONParser(Array(text.utf8))
        self = try parser.value()
        try parser.end()
    }

    /// A member of an object, or nil.
    public subscript(_ name: String) -> JSONValue? {
        guard case .object(let members) = self else { return nil }
        return members[name]
    }

    /// The text of a string.
    public var string: String? {
        guard case .string(let text) = self else { return nil }
        return text
    }

    /// The value of a number.
    public var number: Double? {
        guard case .number(let value) = self else { return nil }
        return value
    }

    /// The value of a whole number.
    public var integer: Int? {
        number.flatMap { Int(exactly: $0) }
    }

    /// The elements of an array.
    public var array: [JSONValue]? {
        guard case .array(let elements) = self else { return nil }
        return elements
    }
}

private struct JSONParser {
    private let bytes: [UInt8]
    private var at = 0

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    mutating func end() throws {
        skipSpace()
        guard at == bytes.count else { throw unexpected("the end") }
    }

    mutating func value() throws -> JSONValue {
        skipSpace()
        switch peek {
        case UInt8(ascii: "{"): return .object(try object())
        case UInt8(ascii: "["): return .array(try array())
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default: return .number(try number())
        }
    }

    private var peek: UInt8? { at < bytes.count ? bytes[at] : nil }

    private mutating func skipSpace() {
        while let byte = peek, [9, 10, 13, 32].contains(byte) { at += 1 }
    }

    private func unexpected(_ wanted: String) -> TestFailure {
        TestFailure("not JSON at byte \(at): expected \(wanted) in \(String(decoding: bytes, as: UTF8.self))")
    }

    private mutating func take(_ character: Unicode.Scalar) throws {
        skipSpace()
        guard peek == UInt8(ascii: character) else { throw unexpected("'\(character)'") }
        at += 1
    }

    private mutating func takes(_ character: Unicode.Scalar) -> Bool {
        skipSpace()
        guard peek == UInt8(ascii: character) else { return false }
        at += 1
        return true
    }

    private mutating func word(_ text: String, _ value: JSONValue) throws -> JSONValue {
        let wanted = Array(text.utf8)
        guard bytes[at...].starts(with: wanted) else { throw unexpected(text) }
        at += wanted.count
        return value
    }

    private mutating func object() throws -> [String: JSONValue] {
        try take("{")
        var members: [String: JSONValue] = [:]
        if takes("}") { return members }
        repeat {
            skipSpace()
            let name = try string()
            try take(":")
            members[name] = try value()
        } while takes(",")
        try take("}")
        return members
    }

    private mutating func array() throws -> [JSONValue] {
        try take("[")
        var elements: [JSONValue] = []
        if takes("]") { return elements }
        repeat { elements.append(try value()) } while takes(",")
        try take("]")
        return elements
    }

    private mutating func number() throws -> Double {
        let start = at
        while let byte = peek, "+-.eE0123456789".utf8.contains(byte) { at += 1 }
        guard let value = Double(String(decoding: bytes[start..<at], as: UTF8.self)) else {
            throw unexpected("a value")
        }
        return value
    }

    private mutating func string() throws -> String {
        try take("\"")
        var text: [UInt8] = []
        while let byte = peek {
            at += 1
            switch byte {
            case UInt8(ascii: "\""): return String(decoding: text, as: UTF8.self)
            case UInt8(ascii: "\\"): text += try escape()
            default: text.append(byte)
            }
        }
        throw unexpected("the end of a string")
    }

    private mutating func escape() throws -> [UInt8] {
        guard let byte = peek else { throw unexpected("an escape") }
        at += 1
        switch byte {
        case UInt8(ascii: "n"): return [10]
        case UInt8(ascii: "t"): return [9]
        case UInt8(ascii: "r"): return [13]
        case UInt8(ascii: "b"): return [8]
        case UInt8(ascii: "f"): return [12]
        case UInt8(ascii: "u"):
            let digits = String(decoding: bytes[at..<min(at + 4, bytes.count)], as: UTF8.self)
            guard let code = UInt32(digits, radix: 16), let scalar = Unicode.Scalar(code) else {
                throw unexpected("\\u")
            }
            at += 4
            return Array(String(Character(scalar)).utf8)
        default: return [byte]
        }
    }
}
