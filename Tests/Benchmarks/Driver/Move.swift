// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import TestSupport

/// One move of a victim by the built `thaw`, over loopback into a pid namespace of its own.
struct Move {
    /// How long a move of some gigabytes may take on a busy machine.
    private static let patience = Duration.seconds(240)

    /// The last line that the victim printed, after its move.
    let victimSays: JSONValue
    /// `--stats` of both sides.
    let source: JSONValue
    let destination: JSONValue
    /// VmHWM in KiB, the most memory that each program ever had.
    let pageServerPeak: Int
    let restorerPeak: Int

    /// Moves a victim that was started with the given arguments and lets it end.
    ///
    /// - Parameter endsBySignal: whether the victim prints its line when it is told to by SIGUSR1, rather than by itself.
    init(victim arguments: [String], endsBySignal: Bool) throws {
        let scratch = try Scratch("move")
        let certificates = try Certificates.directory()
        let victim = try TestProcess(BuiltProduct.path("BenchmarkVictim"), arguments)
        guard try victim.output?.next(within: Self.patience) == "ready" else {
            throw TestFailure("the victim did not start: \(victim.report())")
        }

        let server = try TestProcess(
            BuiltProduct.thaw,
            ["page-server", "-t", "\(victim.pid)", "--tls-dir", certificates, "--status-fd", "3"]
                + ["--stats", scratch.file("source")],
            options: .init(statusPipe: true)
        )
        let port = try Self.status("listening", of: server)["port"]?.integer ?? 0
        let restorer = try TestProcess(
            BuiltProduct.thaw,
            [
                "restore", "--port", "\(port)", "--tls-dir", certificates, "--new-pid-namespace", "--status-fd", "3",
                "--no-pre-copy",
            ]
                + ["--stats", scratch.file("destination")],
            options: .init(statusPipe: true)
        )
        var peaks = [0, 0]
        try Self.watch(restorer, until: "complete") {
            peaks = [max(peaks[0], Self.peak(of: server.pid)), max(peaks[1], Self.peak(of: restorer.pid))]
        }
        (pageServerPeak, restorerPeak) = (peaks[0], peaks[1])
        if endsBySignal { restorer.signal(SIGUSR1) }
        guard let line = try restorer.output?.next(within: Self.patience) else {
            throw TestFailure("the moved victim said nothing: \(restorer.report())")
        }
        victimSays = try JSONValue(parsing: line)
        for program in [restorer, server] {
            let ending = try program.waitForExit(within: Self.patience)
            guard ending == .exited(0) else { throw TestFailure("\(program.commandLine): \(program.report())") }
        }
        source = try JSONValue(parsing: try readText(scratch.file("source")))
        destination = try JSONValue(parsing: try readText(scratch.file("destination")))
        guard victimSays["wrong"]?.integer == 0 else { throw TestFailure("the victim found wrong pages: \(line)") }
    }

    /// Waits for a state that must come.
    private static func status(_ state: String, of program: TestProcess) throws -> JSONValue {
        while let line = try program.status?.next(within: patience) {
            let event = try JSONValue(parsing: line)
            if event["state"]?.string == state { return event }
        }
        throw TestFailure("\(program.commandLine) ended before '\(state)': \(program.report())")
    }

    /// Calls `sample` every few milliseconds until the state has come.
    private static func watch(_ program: TestProcess, until state: String, _ sample: () -> Void) throws {
        let deadline = ContinuousClock.now + patience
        while ContinuousClock.now < deadline {
            sample()
            guard let line = try? program.status?.next(within: .milliseconds(20)) else {
                guard try program.pollForExit() == nil else { break }
                continue
            }
            if try JSONValue(parsing: line)["state"]?.string == state {
                sample()
                return
            }
        }
        throw TestFailure("\(program.commandLine): no '\(state)'; \(program.report())")
    }

    private static func peak(of pid: Int32) -> Int {
        // A program that has ended has no peak to add.
        let status = (try? readText("/proc/\(pid)/status")) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return line?.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap { Int($0) } ?? 0
    }
}

/// One run of the floor.
func measureFloor(_ arguments: [String]) throws -> JSONValue {
    try withProcess(BuiltProduct.path("Floor"), arguments) { floor in
        guard let line = try floor.output?.next(within: .seconds(300)) else {
            throw TestFailure("the floor said nothing: \(floor.report())")
        }
        guard try floor.waitForExit() == .exited(0) else { throw TestFailure("the floor failed: \(floor.report())") }
        return try JSONValue(parsing: line)
    }
}
