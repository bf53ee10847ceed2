// SPDX-License-Identifier: Apache-2.0

/// What became of the process of one move.
struct TrialResult: Sendable, CustomStringConvertible {
    enum End: String, CaseIterable, Sendable {
        /// It runs at the destination, and its source has been ended.
        case moved
        /// The same, brought to its end by a restorer that took over from one that had died.
        case recovered
        /// It runs at the source as if nothing had happened.
        case undone
        /// It waited, stopped, for an operator, who has let it run on at the source.
        case settled
        /// It runs at the destination, and an operator has ended what was left at the source.
        case dropped
        /// Its bytes were wrong.
        case wrong
        /// It is nowhere, or never came to an end.
        case lost
    }

    var end: End
    /// Two copies ran at one moment.
    var wasDouble = false
    /// Neither side came to an end, or said that it waits for the other.
    var isStuck = false
    /// Processes that were left.
    var leftovers = 0
    /// Whether all planned faults came to pass.
    var faultsCame = false
    var seconds = 0.0
    var words = ""

    var description: String {
        let bad = [
            wasDouble ? "TWO COPIES RAN" : nil, isStuck ? "STUCK" : nil, leftovers > 0 ? "\(leftovers) LEFT OVER" : nil,
            faultsCame ? nil : "not reached", words.isEmpty ? nil : words,
        ].compactMap(\.self)
        let tenths = Int(seconds * 10)
        return (["\(end.rawValue) (\(tenths / 10).\(tenths % 10) s)"] + bad).joined(separator: "; ")
    }
}

/// Counts results and prints them.
struct Book: Sendable {
    private struct Row: Sendable {
        var runs = 0
        var ends: [TrialResult.End: Int] = [:]
        var doubles = 0
        var stuck = 0
        var leftovers = 0
        var missed = 0
    }

    private var rows: [String: Row] = [:]
    private var order: [String] = []
    private var points: Set<String> = []
    private var reached: Set<String> = []
    private var seconds = 0.0
    /// How long all of it took.
    var duration = Duration.zero

    mutating func enter(_ plan: Plan, _ result: TrialResult) {
        let isSingle = plan.faults.count == 1
        let name = isSingle ? "\(plan.faults[0].side.rawValue) \(Self.word(plan.faults[0].action))" : "two faults"
        if rows[name] == nil { order.append(name) }
        var row = rows[name] ?? Row()
        row.runs += 1
        row.ends[result.end, default: 0] += 1
        if result.wasDouble { row.doubles += 1 }
        if result.isStuck { row.stuck += 1 }
        row.leftovers += result.leftovers
        if !result.faultsCame { row.missed += 1 }
        rows[name] = row
        seconds += result.seconds
        for fault in plan.faults {
            points.insert("\(fault.point)")
            if isSingle, result.faultsCame { reached.insert("\(fault.point)") }
        }
    }

    private static func word(_ action: String) -> String {
        String(action.split(separator: ":").first ?? "")
    }

    private var total: Row {
        rows.values.reduce(into: Row()) { sum, row in
            sum.runs += row.runs
            sum.doubles += row.doubles
            sum.stuck += row.stuck
            sum.leftovers += row.leftovers
            sum.missed += row.missed
            for (end, count) in row.ends { sum.ends[end, default: 0] += count }
        }
    }

    /// Points with single faults that no move has come to.
    private var unreached: [String] { reached.isEmpty ? [] : points.subtracting(reached).sorted() }

    /// Whether every promise was kept, and everything was tried.
    var isClean: Bool {
        let total = total
        return total.ends[.wrong] == nil && total.ends[.lost] == nil && total.doubles == 0 && total.stuck == 0
            && total.leftovers == 0 && unreached.isEmpty
    }

    func print() {
        let heads = TrialResult.End.allCases.map(\.rawValue)
        say("")
        say(Self.line("fault", ["runs"] + heads + ["double", "stuck", "left over", "not reached"]))
        for name in order { say(Self.line(name, Self.cells(rows[name] ?? Row()))) }
        say(Self.line("all", Self.cells(total)))
        say("points: \(points.count), never reached: \(unreached.isEmpty ? "none" : unreached.joined(separator: ", "))")
        say("seconds: \(duration.components.seconds), of all moves together \(Int(seconds))")
    }

    private static func cells(_ row: Row) -> [String] {
        [row.runs].map(String.init) + TrialResult.End.allCases.map { "\(row.ends[$0] ?? 0)" }
            + [row.doubles, row.stuck, row.leftovers, row.missed].map(String.init)
    }

    private static func line(_ name: String, _ cells: [String]) -> String {
        func pad(_ text: String, _ width: Int) -> String { String(repeating: " ", count: max(0, width - text.count)) }
        let columns = cells.enumerated().map { number, text in
            let width = number < 10 ? 10 : 13
            return pad(text, width) + text
        }
        return name + pad(name, 24) + columns.joined()
    }
}
