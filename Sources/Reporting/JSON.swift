// SPDX-License-Identifier: Apache-2.0

/// A value that is printed as JSON on one line; members of objects keep their order.
public enum JSON: Sendable, Equatable {
    case null
    case flag(Bool)
    case integer(Int64)
    case unsigned(UInt64)
    /// Seconds with nine digits behind the point.
    case seconds(Duration)
    /// A finite number with at most three digits behind the point.
    case decimal(Double)
    case text(String)
    case list([JSON])
    case object([Member])

    /// A name and its value.
    public struct Member: Sendable, Equatable {
        /// The name.
        public var name: String
        /// The value.
        public var value: JSON

        /// A name and its value.
        public init(_ name: String, _ value: JSON) {
            self.name = name
            self.value = value
        }
    }

    /// The text, without line breaks.
    public var line: String {
        var text = ""
        append(to: &text)
        return text
    }

    private func append(to text: inout String) {
        switch self {
        case .null: text += "null"
        case .flag(let flag): text += flag ? "true" : "false"
        case .integer(let number): text += String(number)
        case .unsigned(let number): text += String(number)
        case .seconds(let duration): text += Self.seconds(duration)
        case .decimal(let number): text += Self.decimal(number)
        case .text(let string): Self.quote(string, into: &text)
        case .list(let elements):
            text += "["
            for (index, element) in elements.enumerated() {
                if index > 0 { text += "," }
                element.append(to: &text)
            }
            text += "]"
        case .object(let members):
            text += "{"
            for (index, member) in members.enumerated() {
                if index > 0 { text += "," }
                Self.quote(member.name, into: &text)
                text += ":"
                member.value.append(to: &text)
            }
            text += "}"
        }
    }

    private static func seconds(_ duration: Duration) -> String {
        let (seconds, attoseconds) = duration.components
        let nanoseconds = String(abs(attoseconds) / 1_000_000_000)
        let sign = seconds < 0 || attoseconds < 0 ? "-" : ""
        return sign + String(abs(seconds)) + "." + String(repeating: "0", count: 9 - nanoseconds.count) + nanoseconds
    }

    private static func decimal(_ number: Double) -> String {
        guard number.isFinite, let thousandths = Int64(exactly: (number * 1000).rounded()) else { return "null" }
        let digits = String(thousandths.magnitude % 1000)
        return (thousandths < 0 ? "-" : "") + String(thousandths.magnitude / 1000) + "."
            + String(repeating: "0", count: 3 - digits.count) + digits
    }

    private static func quote(_ string: String, into text: inout String) {
        text += "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case _
            where scalar.value < 0x20 || scalar.value == 0x7F || scalar.value == 0x2028 || scalar.value == 0x2029:
                let hex = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }
}
