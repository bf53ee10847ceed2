// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import TestSupport

/// One move of a victim by the built `thaw`, over loopback into a pid namespace of its own.
struct Move {
    /// What is moved, and how.
    struct Request {
        /// When the victim says its last line.
        enum Ending {
            /// By itself.
            case itself
            /// When it is told to by SIGUSR1, some time after everything has arrived.
            case signal(after: Duration)
        }

        var program = "BenchmarkVictim"
        var arguments: [String]
        var ending = Ending.signal(after: .zero)
        /// Options of `thaw restore`.
        var options = ["--no-pre-copy"]
        /// How long the victim runs before, and tells then what it has done; nil when it does not tell.
        var settling: Duration?
        /// Where all programs run.
        var placement = Placement.free
        /// Options of `thaw page-server`.
        var serverOptions: [String] = []
        /// What lies between the two sides; nil for loopback.
        var wire: Wire?
    }

    /// What a program has used until everything was there.
    struct Usage {
        /// VmHWM in KiB, the most memory that it ever had.
        var peak = 0
        /// Seconds of CPU.
        var seconds = 0.0
    }

    /// How long a move of some gigabytes may take on a busy machine.
    private static let patience = Duration.seconds(240)

    /// The line that the victim printed after it has settled.
    let victimSaid: JSONValue?
    /// The last line that the victim printed, after its move.
    let victimSays: JSONValue
    /// `--stats` of both sides.
    let source: JSONValue
    let destination: JSONValue
    /// What each program has used.
    let pageServer: Usage
    let restorer: Usage
    var pageServerPeak: Int { pageServer.peak }
    var restorerPeak: Int { restorer.peak }
    /// From the start of the restorer until everything is there and both sides agree on it.
    let duration: Duration

    /// Does one.
    init(_ request: Request) throws {
        let scratch = try Scratch("move")
        let certificates = try Certificates.directory()
        let place = request.placement
        let victim = try place.start(BuiltProduct.path(request.program), request.arguments)
        defer { victim.end() }
        victimSaid = try Self.settle(victim, request)
        let server = try place.start(
            BuiltProduct.thaw,
            ["page-server", "-t", "\(victim.pid)", "--tls-dir", certificates, "--status-fd", "3", "--no-record"]
                + ["--stats", scratch.file("source")] + request.serverOptions,
            options: .init(statusPipe: true)
        )
        let listening = try Self.status("listening", of: server)["port"]?.integer ?? 0
        let wire = try request.wire.map { try $0.start(to: listening, place) }
        defer { wire?.process.end() }
        let port = wire?.port ?? listening
        let began = MonotonicTime.now
        let restorer = try place.start(
            BuiltProduct.thaw,
            ["restore", "--port", "\(port)", "--tls-dir", certificates, "--new-pid-namespace", "--status-fd", "3"]
                + ["--stats", scratch.file("destination")] + request.options,
            options: .init(statusPipe: true)
        )
        var used = [Usage(), Usage()]
        try Self.watch(restorer, until: "complete") {
            for (index, program) in [server, restorer].enumerated() { Self.look(at: program.pid, &used[index]) }
        }
        duration = began.elapsed
        (pageServer, self.restorer) = (used[0], used[1])
        victimSays = try Self.lastLine(of: restorer, request)
        for program in [restorer, server] {
            let ending = try program.waitForExit(within: Self.patience)
            guard ending == .exited(0) else { throw TestFailure("\(program.commandLine): \(program.report())") }
        }
        source = try JSONValue(parsing: try readText(scratch.file("source")))
        destination = try JSONValue(parsing: try readText(scratch.file("destination")))
    }

    /// Waits until the victim is ready, and lets it run.
    private static func settle(_ victim: TestProcess, _ request: Request) throws -> JSONValue? {
        guard let ready = try victim.output?.next(within: patience), ready == "ready" || ready.hasPrefix("{") else {
            throw TestFailure("\(victim.commandLine) did not start: \(victim.report())")
        }
        guard let settling = request.settling else { return nil }
        sleep(settling)
        victim.signal(SIGUSR2)
        return try JSONValue(parsing: try victim.readLine(within: patience))
    }

    /// What the victim finds out about its memory.
    private static func lastLine(of restorer: TestProcess, _ request: Request) throws -> JSONValue {
        if case .signal(let time) = request.ending {
            sleep(time)
            restorer.signal(SIGUSR1)
        }
        guard let line = try restorer.output?.next(within: patience) else {
            throw TestFailure("the moved victim said nothing: \(restorer.report())")
        }
        let words = try JSONValue(parsing: line)
        guard words["wrong"]?.integer == 0 else {
            let moved = ([request.program] + request.arguments + request.options).joined(separator: " ")
            throw TestFailure("WRONG PAGES after the move of '\(moved)': \(line)")
        }
        return words
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

    /// A program that has ended has nothing to add.
    private static func look(at pid: Int32, _ used: inout Usage) {
        let status = (try? readText("/proc/\(pid)/status")) ?? ""
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        let peak = line?.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap { Int($0) } ?? 0
        used.peak = max(used.peak, peak)
        // SAFETY: two values that live during the calls.
        var clock = clockid_t()
        var time = timespec()
        guard unsafe clock_getcpuclockid(pid, &clock) == 0, unsafe clock_gettime(clock, &time) == 0 else { return }
        used.seconds = max(used.seconds, Double(time.tv_sec) + Double(time.tv_nsec) / 1e9)
    }
}

/// Which CPUs the measured programs may use: a floor is only comparable when it is placed alike.
enum Placement: String {
    /// All that there are.
    case free
    /// One for all of them together.
    case oneCPU

    /// Starts a program there.
    func start(
        _ path: String,
        _ arguments: [String],
        options: TestProcess.Options = .init()
    ) throws -> TestProcess {
        switch self {
        case .free: try TestProcess(path, arguments, options: options)
        case .oneCPU: try TestProcess("/usr/bin/taskset", ["-c", "0", path] + arguments, options: options)
        }
    }
}

/// Blocks the calling thread.
func sleep(_ time: Duration) {
    usleep(UInt32(max(0, time / .microseconds(1))))
}

/// One run of the floor.
func measureFloor(_ arguments: [String], _ placement: Placement = .free) throws -> JSONValue {
    let floor = try placement.start(BuiltProduct.path("Floor"), arguments)
    defer { floor.end() }
    guard let line = try floor.output?.next(within: .seconds(300)) else {
        throw TestFailure("the floor said nothing: \(floor.report())")
    }
    guard try floor.waitForExit() == .exited(0) else { throw TestFailure("the floor failed: \(floor.report())") }
    return try JSONValue(parsing: line)
}
