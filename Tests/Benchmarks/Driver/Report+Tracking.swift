// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import Glibc
internal import LinuxSystem
internal import Reporting
internal import TestSupport

// What arming and looking cost, next to the bare calls of the kernel on the same memory.
extension Report {
    /// Seconds of the steps.
    private struct Costs {
        /// Making the userfaultfd and registering; the kernel's figure is without the former.
        var register = 0.0
        /// The first round.
        var arm = 0.0
        /// A round in which nothing was written.
        var clean = 0.0
        /// A round in which a tenth was written.
        var written = 0.0
        var unregister = 0.0

        var json: JSON {
            .object([
                .init("register", .time(register)), .init("arm", .time(arm)), .init("clean", .time(clean)),
                .init("written", .time(written)), .init("unregister", .time(unregister)),
            ])
        }
    }

    private static let runs = 3

    func measureTracking(_ plan: Plan) throws -> JSON {
        let table = Table(
            "Tracking, milliseconds: the kernel alone, Thaw, and how many times that is",
            "        memory",
            "  pages",
            "     who",
            "begin",
            "    arm",
            " clean",
            "tenth written",
            "   end"
        )
        let dense = (plan.isQuick ? [64, 256] : [64, 256, 1024, 4096]).map { ("\($0) MiB", ["dense", "\($0)"]) }
        let sparse = [1, 16].map { ("\($0) TiB sparse", ["sparse", "\($0 << 10)"]) }
        let mappings = plan.isQuick ? 10_000 : 100_000
        var rows: [JSON] = []
        for (name, arguments) in dense + sparse {
            rows.append(try measureTracking(name, arguments, table))
        }
        rows.append(
            try withMappings(mappings) {
                try measureTracking("\(mappings) VMAs", ["mappings", "\(mappings)"], table)
            }
        )
        say(
            """
            begin: stop the process, make the userfaultfd in it, register (kernel: register only); arm: the first round; \
            clean, tenth written: later rounds
            """
        )
        return .list(rows)
    }

    private func measureTracking(_ name: String, _ arguments: [String], _ table: Table) throws -> JSON {
        try withProcess(BuiltProduct.path("TrackingFloor"), arguments) { floor in
            let words = try JSONValue(parsing: try floor.readLine(within: .seconds(120)))
            var kernel = Costs()
            kernel.register = words["register"]?.number ?? 0
            kernel.arm = words["arm"]?.number ?? 0
            kernel.clean = words["clean"]?.number ?? 0
            kernel.written = words["written"]?.number ?? 0
            kernel.unregister = words["unregister"]?.number ?? 0
            let runs = try (0..<Self.runs).map { _ in try track(floor) }
            var thaw = Costs()
            for step in [\Costs.register, \.arm, \.clean, \.written, \.unregister] {
                thaw[keyPath: step] = median(of: runs) { $0[keyPath: step] }[keyPath: step]
            }
            let pages = words["pages"]?.integer ?? 0
            row(table, [name, "\(pages)", "kernel"], kernel) { milliseconds($0, 2) }
            row(table, ["", "", "thaw"], thaw) { milliseconds($0, 2) }
            var ratio = Costs()
            for step in [\Costs.arm, \.clean, \.written, \.unregister] {
                ratio[keyPath: step] = thaw[keyPath: step] / max(kernel[keyPath: step], 1e-9)
            }
            row(table, ["", "", "times"], ratio) { $0 > 0 ? decimal($0, 2) : "" }
            floor.signal(SIGUSR1)
            guard try JSONValue(parsing: try floor.readLine())["wrong"]?.integer == 0 else {
                throw TestFailure("WRONG PAGES in a tracked process '\(name)'")
            }
            return .object([
                .init("memory", .text(name)), .init("pages", .whole(pages)), .init("kernel", kernel.json),
                .init("thaw", thaw.json),
            ])
        }
    }

    private func row(_ table: Table, _ head: [String], _ costs: Costs, _ format: (Double) -> String) {
        table.row(
            head[0],
            head[1],
            head[2],
            format(costs.register),
            format(costs.arm),
            format(costs.clean),
            format(costs.written),
            format(costs.unregister)
        )
    }

    /// Tracks a process once.
    private func track(_ floor: TestProcess) throws -> Costs {
        var costs = Costs()
        let strategy = try TrackerSupport.probe().strategy(for: .auto)
        let began = MonotonicTime.now
        let tracker = try WriteTracker.begin(
            floor.pid,
            strategy: strategy,
            scope: .privateAnonymous,
            timeout: .seconds(10)
        )
        costs.register = began.elapsed / .seconds(1)
        costs.arm = try seconds { _ = try tracker.round() }
        costs.clean = try seconds { _ = try tracker.round() }
        floor.signal(SIGUSR2)
        try floor.waitForLine("written")
        costs.written = try seconds { _ = try tracker.round() }
        costs.unregister = try seconds { tracker.end() }
        return costs
    }

    private func seconds(_ body: () throws -> Void) throws -> Double {
        let began = MonotonicTime.now
        try body()
        return began.elapsed / .seconds(1)
    }

    /// Lets processes have so many mappings for a while.
    private func withMappings<Result>(_ count: Int, _ body: () throws -> Result) throws -> Result {
        let file = "/proc/sys/vm/max_map_count"
        let limit = try readText(file)
        guard (Int(limit.split(separator: "\n").first ?? "") ?? 0) < count + 1000 else { return try body() }
        try writeFile(file, "\(count * 2)")
        defer { try? writeFile(file, limit) }
        return try body()
    }
}
