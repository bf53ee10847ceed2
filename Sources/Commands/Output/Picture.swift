// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem

/// Small pictures made of characters.
enum Picture {
    /// For places where nothing else can be relied on.
    case ascii
    /// Block elements of Unicode.
    case blocks

    /// What can be shown on a stream: blocks on a terminal whose user has chosen UTF-8.
    static func of(_ stream: StandardStream) -> Picture {
        stream.isTerminal && showsUTF8(EnvironmentVariable.text) ? .blocks : .ascii
    }

    /// Whether the character set of the locale is UTF-8, as locale(7) finds it, and the terminal more than a typewriter.
    static func showsUTF8(_ variable: (String) -> String?) -> Bool {
        guard variable("TERM") != "dumb" else { return false }
        let chosen = ["LC_ALL", "LC_CTYPE", "LANG"].lazy.compactMap(variable).first { !$0.isEmpty }
        let name = (chosen ?? "").lowercased()
        return name.contains("utf-8") || name.contains("utf8")
    }

    /// A bar for a part (0 to 1) of a whole; anything above nothing shows.
    func bar(_ share: Double, width: Int) -> String {
        let parts = self == .blocks ? 8 : 2
        let all = width * parts
        let wanted = Int((min(1, max(0, share)) * Double(all)).rounded())
        let count = share > 0 ? max(1, wanted) : 0
        let (full, rest) = count.quotientAndRemainder(dividingBy: parts)
        switch self {
        case .ascii: return String(repeating: "#", count: full) + (rest > 0 ? "-" : "")
        case .blocks: return String(repeating: "█", count: full) + (rest > 0 ? String(Self.eighths[rest - 1]) : "")
        }
    }

    /// One character a value, as high as the value is next to the highest.
    func sparkline(_ values: [Double]) -> String {
        let steps = self == .blocks ? Self.heights : Self.marks
        let highest = values.max() ?? 0
        return String(
            values.map { value in
                guard highest > 0, value > 0 else { return steps[0] }
                return steps[max(1, Int((value / highest * Double(steps.count - 1)).rounded()))]
            }
        )
    }

    private static let eighths = Array("▏▎▍▌▋▊▉")
    private static let heights = Array(" ▁▂▃▄▅▆▇█")
    private static let marks = Array("_.:-=+*#@")
}
