// SPDX-License-Identifier: Apache-2.0

/// Numbers for people to read, in ASCII.
enum Figures {
    /// A number with so many digits behind the point.
    static func decimal(_ number: Double, digits: Int = 1) -> String {
        let scale = (0..<digits).reduce(1.0) { scale, _ in scale * 10 }
        let scaled = (number * scale).rounded()
        guard scaled.isFinite, let whole = Int64(exactly: scaled.magnitude) else { return "?" }
        let text = String(whole)
        let padded = String(repeating: "0", count: max(0, digits + 1 - text.count)) + text
        let sign = scaled < 0 ? "-" : ""
        return digits > 0 ? "\(sign)\(padded.dropLast(digits)).\(padded.suffix(digits))" : sign + padded
    }

    /// Bytes in the largest binary unit of which there is one.
    static func bytes(_ count: Double) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB"]
        var (value, unit) = (count, 0)
        // As it will be shown: not 1024.0 KiB.
        while value >= 1023.95, unit < units.count - 1 { (value, unit) = (value / 1024, unit + 1) }
        let isWhole = unit == 0 || value == value.rounded()
        return "\(decimal(value, digits: isWhole ? 0 : 1)) \(units[unit])"
    }

    /// A time in the unit that fits.
    static func duration(_ time: Duration) -> String {
        let seconds = time / .seconds(1)
        return switch seconds {
        case ..<0.000_999_5: "\(decimal(seconds * 1e6, digits: 0)) us"
        case ..<0.099_95: "\(decimal(seconds * 1e3)) ms"
        case ..<0.999_5: "\(decimal(seconds * 1e3, digits: 0)) ms"
        case ..<99.95: "\(decimal(seconds)) s"
        default: "\(decimal(seconds, digits: 0)) s"
        }
    }

    /// A time in seconds as a user has written it, to the millisecond.
    static func seconds(_ time: Duration) -> String {
        var text = Substring(decimal(time / .seconds(1), digits: 3))
        while text.hasSuffix("0") { text.removeLast() }
        return (text.hasSuffix(".") ? text.dropLast() : text) + " s"
    }

    /// A part of the whole in percent; anything above nothing shows.
    static func percent(_ share: Double) -> String {
        share > 0 && share < 0.000_5 ? "<0.1 %" : "\(decimal(share * 100)) %"
    }
}

extension String {
    /// Blanks before the text, up to a width.
    func right(_ width: Int) -> String {
        String(repeating: " ", count: max(0, width - count)) + self
    }

    /// Blanks behind the text, up to a width.
    func left(_ width: Int) -> String {
        self + String(repeating: " ", count: max(0, width - count))
    }

    /// The text without anything that a terminal obeys: names of files and processes may hold escape sequences.
    var printable: String {
        var text = ""
        for scalar in unicodeScalars {
            let isControl = scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value)
            text.unicodeScalars.append(isControl ? "?" : scalar)
        }
        return text
    }
}
