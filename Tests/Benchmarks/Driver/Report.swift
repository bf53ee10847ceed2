// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import TestSupport

/// What was measured; rows are printed as they come.
struct Report {
    private var members: [(String, String)] = []

    /// Measures everything in the plan.
    init(measuring plan: Plan) throws {
        describeMachine()
        if plan.parts.contains(.pause) { try measurePause(plan) }
        if plan.parts.contains(.latency) { try measureLatency(plan) }
        if plan.parts.contains(.bulk) { try measureBulk(plan) }
    }

    /// Prints the JSON object, and writes it to a file when one is given.
    func write(to file: String?) throws {
        let json = "{" + members.map { "\"\($0.0)\":\($0.1)" }.joined(separator: ",") + "}"
        print("\n" + json)
        if let file { try writeFile(file, json + "\n") }
    }

    private mutating func describeMachine() {
        let kernel = (try? readText("/proc/sys/kernel/osrelease"))?.split(separator: "\n").first ?? "unknown"
        let processors = ((try? readText("/proc/cpuinfo")) ?? "").split(separator: "\n")
        let model =
            processors.first { $0.hasPrefix("model name") }?.split(separator: ":").last?.drop { $0 == " " } ?? "unknown"
        let count = processors.count { $0.hasPrefix("processor") }
        let commit = Self.commit()
        print("Linux \(kernel), \(count) x \(model), commit \(commit)")
        members.append(
            (
                "machine",
                "{\"kernel\":\"\(kernel)\",\"processor\":\"\(model)\",\"count\":\(count),\"commit\":\"\(commit)\"}"
            )
        )
    }

    private static func commit() -> String {
        let line = try? withProcess("/usr/bin/git", ["-C", BuiltProduct.package, "rev-parse", "--short", "HEAD"]) {
            git in
            try git.output?.next()
        }
        return (line ?? nil) ?? "unknown"
    }

    // MARK: Freeze to first instruction

    private mutating func measurePause(_ plan: Plan) throws {
        print("\nFreeze to first instruction, and what the restore cost")
        print("     MiB  threads  pause ms  gap ms  resident s  MiB/s  server MiB  restorer MiB")
        var rows: [String] = []
        for mebibytes in plan.mebibytes {
            for threads in plan.threads {
                var moves: [Move] = []
                for _ in 0..<plan.repetitions {
                    moves.append(try Move(victim: ["\(mebibytes)", "\(threads)", "gap"], endsBySignal: true))
                }
                moves.sort { ($0.destination["pause"]?.number ?? 0) < ($1.destination["pause"]?.number ?? 0) }
                let move = moves[moves.count / 2]
                let pause = move.destination["pause"]?.number ?? -1
                let gap = move.victimSays["gap"]?.number ?? -1
                let resident = move.destination["timeToResident"]?.number ?? -1
                let speed = Self.speed(of: move)
                let columns = [
                    pad("\(mebibytes)", 8), pad("\(threads)", 8), pad(decimal(pause * 1000), 9),
                    pad(decimal(gap * 1000), 7), pad(decimal(resident, 2), 11), pad(decimal(speed, 0), 6),
                    pad(decimal(Double(move.pageServerPeak) / 1024), 11),
                    pad(decimal(Double(move.restorerPeak) / 1024), 13),
                ]
                print(columns.joined(separator: " "))
                rows.append(
                    "{\"mebibytes\":\(mebibytes),\"threads\":\(threads),\"pause\":\(pause),\"gap\":\(gap),"
                        + "\"timeToResident\":\(resident),\"mebibytesPerSecond\":\(decimal(speed)),"
                        + "\"peakKiB\":{\"pageServer\":\(move.pageServerPeak),\"restorer\":\(move.restorerPeak)}}"
                )
            }
        }
        print(
            "pause: as thaw measures it; gap: the longest time between two readings of the clock by the victim itself"
        )
        members.append(("pause", "[" + rows.joined(separator: ",") + "]"))
    }

    /// Bytes that arrived from the first restored instruction until everything was there.
    private static func speed(of move: Move) -> Double {
        let bytes = move.destination["bytes"]?["received"]?.number ?? 0
        let seconds = (move.destination["timeToResident"]?.number ?? 0) - (move.destination["pause"]?.number ?? 0)
        return seconds > 0 ? bytes / 1_048_576 / seconds : 0
    }

    // MARK: Fault latency

    private mutating func measureLatency(_ plan: Plan) throws {
        let mebibytes = plan.mebibytes.last ?? 64
        print(
            "\nWait for a page on scattered touches, microseconds (\(mebibytes) MiB by thaw, while everything else streams)"
        )
        print("                p50     p90     p99    p999       max     waits")
        let floor = try measureFloor(["fault", "20000", "1"])
        printPercentiles("floor", floor)
        let move = try Move(victim: ["\(mebibytes)", "1", "touch"], endsBySignal: false)
        printPercentiles("thaw", move.victimSays)
        let ratio = (move.victimSays["p50"]?.number ?? 0) / max(0.001, floor["p50"]?.number ?? 0)
        print("thaw's median is \(decimal(ratio, 2)) times the floor's")
        members.append(
            (
                "latency",
                "{\"floor\":\(floor.members),\"thaw\":\(move.victimSays.members),\"ratio\":\(decimal(ratio, 3))}"
            )
        )
    }

    private func printPercentiles(_ name: String, _ values: JSONValue) {
        let columns = ["p50", "p90", "p99", "p999"].map { pad(decimal(values[$0]?.number ?? 0), 7) }
        let waits = values["waits"]?.integer.map(String.init) ?? "20000"
        print(
            "  \(name)".padded(12) + columns.joined(separator: " ") + pad(decimal(values["max"]?.number ?? 0), 10)
                + pad(waits, 10)
        )
    }

    // MARK: Bulk

    private mutating func measureBulk(_ plan: Plan) throws {
        let mebibytes = plan.mebibytes.last ?? 64
        // The first run touches memory that the machine may have to find first.
        _ = try measureFloor(["bulk", "\(mebibytes * 256)"])
        let floor = try measureFloor(["bulk", "\(mebibytes * 256)"])["mebibytesPerSecond"]?.number ?? 0
        let move = try Move(victim: ["\(mebibytes)", "1", "gap"], endsBySignal: true)
        let speed = Self.speed(of: move)
        print("\nBulk: floor \(decimal(floor, 0)) MiB/s, thaw \(decimal(speed, 0)) MiB/s (\(mebibytes) MiB)")
        members.append(("bulk", "{\"floor\":\(decimal(floor)),\"thaw\":\(decimal(speed))}"))
    }
}

extension JSONValue {
    /// An object of numbers as JSON text.
    fileprivate var members: String {
        guard case .object(let members) = self else { return "{}" }
        return "{"
            + members.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\($0.value.number ?? 0)" }.joined(separator: ",")
            + "}"
    }
}

extension String {
    fileprivate func padded(_ width: Int) -> String {
        self + String(repeating: " ", count: max(0, width - count))
    }
}

private func pad(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(0, width - text.count)) + text
}

/// A number with some digits behind the point.
private func decimal(_ number: Double, _ digits: Int = 1) -> String {
    guard number.isFinite else { return "0" }
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let scaled = Int((number.magnitude * scale).rounded())
    let whole = scaled / Int(scale)
    guard digits > 0 else { return (number < 0 ? "-" : "") + "\(whole)" }
    let fraction = String(scaled % Int(scale))
    return (number < 0 ? "-" : "") + "\(whole)." + String(repeating: "0", count: digits - fraction.count) + fraction
}
