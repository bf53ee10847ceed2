// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Lines over two axes, drawn as SVG without any program that draws.
public struct Chart: Sendable {
    /// A line through points, in the order given.
    public struct Series: Sendable {
        /// What the legend says.
        public var name: String
        /// Places on the two axes.
        public var points: [(x: Double, y: Double)]

        /// A line.
        public init(_ name: String, _ points: [(x: Double, y: Double)]) {
            self.name = name
            self.points = points
        }
    }

    /// A moment that is marked across the whole chart.
    public struct Mark: Sendable {
        /// Where.
        public var x: Double
        /// What happened.
        public var label: String

        /// A mark.
        public init(_ label: String, at x: Double) {
            self.x = x
            self.label = label
        }
    }

    /// How an axis goes.
    public enum Scale: Sendable {
        /// Evenly, from zero.
        case linear
        /// By powers of ten.
        case logarithmic
        /// Percent of all, by what is left: 0, 90, 99, 99.9 and so on are as far from each other.
        case tail
    }

    /// A line of text under the axis, or beside it.
    public struct Axis: Sendable {
        /// What is on it, and in which unit.
        public var label: String
        /// How it goes.
        public var scale: Scale

        /// An axis.
        public init(_ label: String, _ scale: Scale = .linear) {
            self.label = label
            self.scale = scale
        }
    }

    /// Above the lines.
    public var title: String
    /// From left to right, and from the bottom up.
    public var x: Axis
    public var y: Axis
    /// What is drawn.
    public var series: [Series]
    /// Moments.
    public var marks: [Mark]

    /// A chart.
    public init(_ title: String, x: Axis, y: Axis, _ series: [Series], marks: [Mark] = []) {
        self.title = title
        self.x = x
        self.y = y
        self.series = series
        self.marks = marks
    }

    private static let size = (width: 880.0, height: 540.0)
    private static let frame = (left: 80.0, top: 44.0, right: 840.0, bottom: 420.0)
    private static let colours = [
        "#0b62a4", "#d1495b", "#2e933c", "#8f5db7", "#c77700", "#00798c", "#6b705c", "#e07a9b", "#333333", "#8a5a2b",
    ]

    /// The picture as a file.
    public var svg: String {
        let across = Ruler(x.scale, series.flatMap { $0.points.map(\.x) } + marks.map(\.x))
        let up = Ruler(y.scale, series.flatMap { $0.points.map(\.y) })
        var text = """
            <?xml version="1.0" encoding="UTF-8"?>
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(number(Self.size.width)) \(number(Self.size.height))" \
            font-family="sans-serif" font-size="12">
            <rect width="100%" height="100%" fill="#ffffff"/>
            <text x="\(number(Self.frame.left))" y="24" font-size="15">\(escaped(title))</text>

            """
        text += grid(across, up)
        for (index, mark) in marks.enumerated() { text += line(of: mark, index, across) }
        for (index, one) in series.enumerated() { text += line(through: one, index, across, up) }
        return text + "</svg>\n"
    }

    private func place(_ share: Double, from start: Double, to end: Double) -> String {
        number(start + share * (end - start))
    }

    private func grid(_ across: Ruler, _ up: Ruler) -> String {
        let (left, top, right, bottom) = Self.frame
        var text = ""
        for tick in across.ticks {
            let x = place(across.share(tick), from: left, to: right)
            text += "<path d=\"M\(x) \(number(top))V\(number(bottom))\" stroke=\"#e3e3e3\"/>\n"
            text += "<text x=\"\(x)\" y=\"\(number(bottom + 18))\" text-anchor=\"middle\">\(number(tick))</text>\n"
        }
        for tick in up.ticks {
            let y = place(up.share(tick), from: bottom, to: top)
            text += "<path d=\"M\(number(left)) \(y)H\(number(right))\" stroke=\"#e3e3e3\"/>\n"
            text += "<text x=\"\(number(left - 8))\" y=\"\(y)\" dy=\"4\" text-anchor=\"end\">\(number(tick))</text>\n"
        }
        let middle = number((top + bottom) / 2)
        text += "<path d=\"M\(number(left)) \(number(top))V\(number(bottom))H\(number(right))\""
        text += " fill=\"none\" stroke=\"#333333\"/>\n"
        text += "<text x=\"\(number((left + right) / 2))\" y=\"\(number(bottom + 42))\" text-anchor=\"middle\">"
        text += escaped(x.label) + "</text>\n"
        text += "<text x=\"20\" y=\"\(middle)\" text-anchor=\"middle\" transform=\"rotate(-90 20 \(middle))\">"
        return text + escaped(y.label) + "</text>\n"
    }

    /// Labels lie below each other, since moments may lie close together.
    private func line(of mark: Mark, _ index: Int, _ across: Ruler) -> String {
        let x = place(across.share(mark.x), from: Self.frame.left, to: Self.frame.right)
        let (top, bottom) = (number(Self.frame.top), number(Self.frame.bottom))
        return "<path d=\"M\(x) \(top)V\(bottom)\" stroke=\"#888888\" stroke-dasharray=\"4 3\"/>\n"
            + "<text x=\"\(x)\" y=\"\(top)\" dx=\"4\" dy=\"\(12 + index * 15)\" fill=\"#555555\">\(escaped(mark.label))</text>\n"
    }

    private func line(through one: Series, _ index: Int, _ across: Ruler, _ up: Ruler) -> String {
        let (left, top, right, bottom) = Self.frame
        let colour = Self.colours[index % Self.colours.count]
        let dashes = index < Self.colours.count ? "" : " stroke-dasharray=\"5 3\""
        let places = one.points.map { point in
            place(across.share(point.x), from: left, to: right) + ","
                + place(up.share(point.y), from: bottom, to: top)
        }
        let key = number(left + Double(index % 4) * 195)
        let height = number(bottom + 64 + Double(index / 4) * 18)
        var text = "<polyline fill=\"none\" stroke=\"\(colour)\" stroke-width=\"1.6\"\(dashes)"
        text += " points=\"\(places.joined(separator: " "))\"/>\n"
        text += "<path d=\"M\(key) \(height)h18\" stroke=\"\(colour)\" stroke-width=\"3\"\(dashes)/>\n"
        return text + "<text x=\"\(key)\" y=\"\(height)\" dx=\"24\" dy=\"4\">\(escaped(one.name))</text>\n"
    }
}

/// Where the values of an axis lie on it.
private struct Ruler {
    let ticks: [Double]
    private let scale: Chart.Scale
    private let low: Double
    private let high: Double

    init(_ scale: Chart.Scale, _ values: [Double]) {
        self.scale = scale
        let usable = values.filter { $0.isFinite && (scale != .logarithmic || $0 > 0) }
        let greatest = usable.max() ?? 1
        switch scale {
        case .linear:
            let step = Self.step(for: max(greatest, 1e-9))
            let count = Int((greatest / step).rounded(.up))
            ticks = (0...max(1, count)).map { Double($0) * step }
            (low, high) = (0, Double(max(1, count)) * step)
        case .logarithmic:
            let first = Int(log10(usable.min() ?? 1).rounded(.down))
            let last = max(first + 1, Int(log10(greatest).rounded(.up)))
            ticks = (first...last).map { pow(10, Double($0)) }
            (low, high) = (Double(first), Double(last))
        case .tail:
            // The last point is 100 %, which lies nowhere: the axis ends where a point is left.
            ticks = [0, 50, 90, 99, 99.9, 99.99]
            (low, high) = (0, 4.3)
        }
    }

    /// 0 to 1 from one end of the axis to the other.
    func share(_ value: Double) -> Double {
        let place: Double
        switch scale {
        case .linear: place = value
        case .logarithmic: place = log10(max(value, pow(10, low)))
        case .tail: place = -log10(max(1 - value / 100, 1e-9))
        }
        return min(1, max(0, (place - low) / (high - low)))
    }

    /// 1, 2 or 5 times a power of ten, so that there are five to ten steps.
    private static func step(for greatest: Double) -> Double {
        let power = pow(10, log10(greatest / 5).rounded(.down))
        return [1.0, 2, 5].map { $0 * power }.last { greatest / $0 >= 5 } ?? power
    }
}

/// A number as SVG and readers want it: at most three digits behind the point, none that say nothing.
private func number(_ value: Double) -> String {
    guard value.isFinite, value.magnitude < 1e15 else { return "0" }
    let thousandths = Int((value.magnitude * 1000).rounded())
    let sign = value < 0 && thousandths > 0 ? "-" : ""
    guard thousandths % 1000 > 0 else { return sign + "\(thousandths / 1000)" }
    var digits = "\(thousandths % 1000 + 1000)".dropFirst()
    while digits.last == "0" { digits = digits.dropLast() }
    return sign + "\(thousandths / 1000)." + digits
}

private func escaped(_ text: String) -> String {
    text.reduce(into: "") { result, character in
        switch character {
        case "&": result += "&amp;"
        case "<": result += "&lt;"
        case ">": result += "&gt;"
        case "\"": result += "&quot;"
        default: result.append(character)
        }
    }
}
