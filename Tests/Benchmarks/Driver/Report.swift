// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Reporting
internal import TestSupport

/// What was measured; rows are printed as they come.
struct Report {
    private var members: [JSON.Member] = []

    /// Measures everything in the plan.
    init(measuring plan: Plan) throws {
        describeMachine()
        for part in plan.parts {
            let began = MonotonicTime.now
            switch part {
            case .digest: add("digest", try measureDigest(plan))
            case .pause: add("pause", try measurePause(plan))
            case .latency: add("latency", try measureLatency(plan))
            case .bulk: add("bulk", try measureBulk(plan))
            case .threads: add("threads", try measureThreads(plan))
            case .orders: add("orders", try measureOrders(plan))
            case .links: add("links", try measureLinks(plan))
            case .application: add("application", try measureApplication(plan))
            case .moves: add("moves", try measureMoves(plan))
            case .sizes: add("sizes", try measureSizes(plan))
            case .writers: add("writers", try measureWriters(plan))
            case .tracking: add("tracking", try measureTracking(plan))
            }
            say("(\(decimal(began.elapsed / .seconds(1), 0)) s)")
        }
    }

    /// Prints the JSON object, and writes it to a file when one is given.
    func write(to file: String?) throws {
        let json = JSON.object(members).line
        say("\n" + json)
        if let file { try writeFile(file, json + "\n") }
    }

    private mutating func add(_ part: String, _ figures: JSON) {
        members.append(.init(part, figures))
    }

    private mutating func describeMachine() {
        let kernel = (try? readText("/proc/sys/kernel/osrelease"))?.split(separator: "\n").first ?? "unknown"
        let processors = ((try? readText("/proc/cpuinfo")) ?? "").split(separator: "\n")
        let model =
            processors.first { $0.hasPrefix("model name") }?.split(separator: ":").last?.drop { $0 == " " } ?? "unknown"
        let count = processors.count { $0.hasPrefix("processor") }
        let commit = Self.commit()
        let load = (try? readText("/proc/loadavg"))?.split(separator: " ").first ?? "unknown"
        say("Linux \(kernel), \(count) x \(model), commit \(commit), load \(load)")
        let machine: [JSON.Member] = [
            .init("kernel", .text(String(kernel))), .init("processor", .text(String(model))),
            .init("count", .integer(Int64(count))), .init("commit", .text(commit)),
            .init("load", .decimal(Double(load) ?? 0)),
        ]
        add("machine", .object(machine))
    }

    private static func commit() -> String {
        let line = try? withProcess("/usr/bin/git", ["-C", BuiltProduct.package, "rev-parse", "--short", "HEAD"]) {
            git in
            try git.output?.next()
        }
        return (line ?? nil) ?? "unknown"
    }
}

extension JSON {
    /// Seconds, or null.
    static func time(_ seconds: Double?) -> JSON {
        seconds.map { .seconds(.seconds($0)) } ?? .null
    }

    /// A whole number.
    static func whole(_ number: Int) -> JSON {
        .integer(Int64(number))
    }
}

extension JSON.Member {
    /// The most memory that both programs of a move ever had.
    static func peaks(of move: Move) -> JSON.Member {
        .init(
            "peakKiB",
            .object([
                .init("pageServer", .whole(move.pageServerPeak)), .init("restorer", .whole(move.restorerPeak)),
            ])
        )
    }
}
