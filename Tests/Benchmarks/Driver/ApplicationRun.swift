// SPDX-License-Identifier: Apache-2.0
internal import BenchmarkPictures
internal import Glibc
internal import TestSupport

/// A program that counts its operations, moved in the middle of its work.
struct ApplicationRun {
    /// What the application did up to a moment, since the one before.
    struct Interval {
        /// Seconds since the start of the restorer.
        var end: Double
        var seconds: Double
        var operations: Double

        var rate: Double { seconds > 0 ? operations / seconds : 0 }
    }

    /// How long it runs undisturbed before and after.
    private static let before = Duration.seconds(3)
    private static let after = Duration.seconds(3)
    private static let patience = Duration.seconds(120)

    /// Operations, in order.
    let intervals: [Interval]
    /// Memory of the copy in MiB by time.
    let residency: [(x: Double, y: Double)]
    /// When states came, in seconds since the start of the restorer.
    let moments: [String: Double]

    /// Moves one.
    init(mebibytes: Int, updates: Int, options: [String], through link: Wire? = nil) throws {
        let script = "\(BuiltProduct.package)/Tests/Benchmarks/Application/queries.py"
        guard let python = Machine.program("python3") else { throw TestFailure("no python3: run deploy/bootstrap") }
        let certificates = try Certificates.directory()
        let application = try TestProcess(python, [script, "\(mebibytes)", "\(updates)"])
        defer { application.end() }
        try application.waitForLine("ready", within: Self.patience)
        sleep(Self.before)
        let server = try TestProcess(
            BuiltProduct.thaw,
            ["page-server", "-t", "\(application.pid)", "--tls-dir", certificates, "--status-fd", "3", "--no-record"],
            options: .init(statusPipe: true)
        )
        guard let line = try server.status?.next(within: Self.patience),
            let port = try JSONValue(parsing: line)["port"]?.integer
        else { throw TestFailure("the page server does not listen: \(server.report())") }
        let wire = try link.map { try $0.start(to: port) }
        defer { wire?.process.end() }
        let began = Self.now
        let restorer = try TestProcess(
            BuiltProduct.thaw,
            ["restore", "--port", "\(wire?.port ?? port)", "--tls-dir", certificates, "--new-pid-namespace"]
                + ["--status-fd", "3"] + options,
            options: .init(statusPipe: true)
        )
        var watch = Watch(began: began)
        try watch.follow(restorer, until: "complete", within: Self.patience)
        sleep(Self.after)
        restorer.signal(SIGUSR1)
        guard try restorer.waitForExit(within: Self.patience) == .exited(0) else {
            throw TestFailure("the application failed: \(restorer.report())")
        }
        // Only the source knows when the freeze was.
        for line in try server.status?.rest() ?? [] { try watch.note(JSONValue(parsing: line)) }
        // What it said before the freeze waits in the first pipe, the rest in the second.
        let lines = (try application.output?.rest() ?? []) + (try restorer.output?.rest() ?? [])
        guard lines.last == "wrong 0" else {
            throw TestFailure("WRONG ROWS after the move: \(lines.last ?? "nothing")")
        }
        intervals = Self.intervals(in: lines, since: began)
        residency = watch.residency
        moments = watch.moments
    }

    private static func intervals(in lines: [String], since began: Double) -> [Interval] {
        let pairs = lines.compactMap { line -> (Double, Double)? in
            let words = line.split(separator: " ")
            guard words.count == 2, let time = Double(words[0]), let count = Double(words[1]) else { return nil }
            return (time, count)
        }
        return zip(pairs, pairs.dropFirst()).map { earlier, later in
            Interval(end: later.0 - began, seconds: later.0 - earlier.0, operations: later.1)
        }
    }

    /// Operations a second before anything was done to it.
    var undisturbed: Double {
        let early = intervals.filter { $0.end < 0 }.map(\.rate).sorted()
        return early.isEmpty ? 0 : early[early.count / 2]
    }

    /// Seconds of undisturbed work that are missing, from the start of the restorer to a while after everything was there.
    var lostSeconds: Double {
        let plain = undisturbed
        let end = (moments["complete"] ?? 0) + 1
        let meant = intervals.filter { $0.end > 0 && $0.end < end }
        return plain > 0 ? meant.reduce(0) { $0 + $1.seconds - $1.operations / plain } : 0
    }

    /// The lowest rate of an interval that began after the copy ran, as a part of the undisturbed one.
    var lowestShare: Double {
        let running = moments["running"] ?? 0
        let lowest = intervals.filter { $0.end - $0.seconds > running }.map(\.rate).min() ?? 0
        return undisturbed > 0 ? lowest / undisturbed : 0
    }

    /// Seconds after the start of the copy until it works at 90 % of its undisturbed rate.
    var recovery: Double? {
        let running = moments["running"] ?? 0
        return intervals.first { $0.end - $0.seconds > running && $0.rate > 0.9 * undisturbed }
            .map { $0.end - $0.seconds - running }
    }

    static var now: Double {
        var time = timespec()
        // SAFETY: a value that lives during the call.
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    /// Looks at a move from outside.
    private struct Watch {
        let began: Double
        var moments: [String: Double] = [:]
        var residency: [(x: Double, y: Double)] = []

        mutating func note(_ event: JSONValue) {
            guard let state = event["state"]?.string, moments[state] == nil else { return }
            moments[state] = (event["time"]?.number ?? began) - began
        }

        /// Notes states and the memory of the copy until a state comes, every 20 ms.
        mutating func follow(_ restorer: TestProcess, until last: String, within limit: Duration) throws {
            let deadline = ContinuousClock.now + limit
            var copy: Int32?
            while ContinuousClock.now < deadline {
                if let copy, let resident = try? memoryKilobytes("VmRSS", of: copy) {
                    residency.append((ApplicationRun.now - began, Double(resident) / 1024))
                }
                guard let line = try? restorer.status?.next(within: .milliseconds(20)) else {
                    guard try restorer.pollForExit() == nil else { break }
                    continue
                }
                let event = try JSONValue(parsing: line)
                note(event)
                if event["state"]?.string == "running" { copy = event["pid"]?.integer.map(Int32.init) }
                if event["state"]?.string == last { return }
            }
            throw TestFailure("\(restorer.commandLine): no '\(last)'; \(restorer.report())")
        }
    }
}
