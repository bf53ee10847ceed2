// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem

/// A table with right-aligned columns, whose rows are printed as they come.
struct Table {
    private let widths: [Int]

    /// Prints the head.
    init(_ title: String, _ columns: String...) {
        widths = columns.map { $0.count + 2 }
        say("\n" + title)
        say(Self.line(columns, widths))
    }

    /// Prints a row.
    func row(_ cells: String...) {
        precondition(cells.count == widths.count, "Table: \(cells.count) cells for \(widths.count) columns")
        say(Self.line(cells, widths))
    }

    private static func line(_ cells: [String], _ widths: [Int]) -> String {
        zip(cells, widths).map { pad($0, $1) }.joined()
    }
}

/// Prints a line at once, so that a long run can be watched through a pipe.
func say(_ text: String) {
    StandardStream.output.write(text + "\n")
}

/// A text with blanks before it.
func pad(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
}

/// A number with some digits behind the point.
func decimal(_ number: Double, _ digits: Int = 1) -> String {
    guard number.isFinite else { return "0" }
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let scaled = Int((number.magnitude * scale).rounded())
    let whole = scaled / Int(scale)
    let sign = number < 0 ? "-" : ""
    guard digits > 0 else { return sign + "\(whole)" }
    let fraction = String(scaled % Int(scale))
    return sign + "\(whole)." + String(repeating: "0", count: digits - fraction.count) + fraction
}

/// Seconds as milliseconds, or a dash.
func milliseconds(_ seconds: Double?, _ digits: Int = 1) -> String {
    seconds.map { decimal($0 * 1000, digits) } ?? "-"
}

/// A part of a whole in percent.
func percent(_ part: Double, of whole: Double) -> String {
    whole > 0 ? decimal(part / whole * 100) : "-"
}

/// The one in the middle by a figure.
func median<Element>(of elements: [Element], by figure: (Element) -> Double) -> Element {
    let sorted = elements.sorted { figure($0) < figure($1) }
    return sorted[sorted.count / 2]
}
