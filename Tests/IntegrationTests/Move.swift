// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport

/// One move over loopback by the real commands: `thaw page-server -t PID` and `thaw restore`.
final class Move {
    /// What differs from the plain, attached move.
    struct Options {
        var source: [String] = []
        /// Pre-copy has tests of its own: everywhere else pages are to come by faults and by the stream.
        var preCopies = false
        var destination: [String] = ["--new-pid-namespace"]
        var clientCertificates: String?
        var output: TestProcess.Stream = .null
        var input: TestProcess.Stream = .null
        var errors: TestProcess.Stream?
        /// Whether what travels goes through a proxy that can be told to cut it off.
        var isProxied = false
        /// Through a proxy that carries so many bytes and nothing more on the connection that has the last of them: pre-copy does not end.
        var stallsAfter: UInt64?
        /// Through a proxy that carries so many bytes of the stream and nothing more of it: what is touched then is asked for.
        var stallsStreamAfter: UInt64?
        /// Source and destination are machines of their own, joined by a cable.
        var cable: Cable?
        /// Variables of both programs, `NAME=VALUE`; `SIDE` becomes `source` or `destination`.
        var environment: [String] = []

        /// The variables of one side.
        fileprivate func environment(of side: String) -> [String] {
            environment.map { variable in
                variable.split(separator: "SIDE", omittingEmptySubsequences: false).joined(separator: side)
            }
        }
    }

    /// The control connection comes first, then that of faults.
    private static let streamConnection = 2

    let server: TestProcess
    let restorer: TestProcess
    let serverEvents: StatusEvents
    let restorerEvents: StatusEvents
    let port: Int
    let proxy: CuttingProxy?
    /// The copy, as the test sees it, once it runs; killed at the end of the move's life unless it is given away.
    private(set) var copy: Int32?
    private var copyIsOurs = true

    /// Starts both sides.
    init(of pid: Int32, _ options: Options = Options()) throws {
        server = try Self.startServer(
            pid,
            options.source,
            on: options.cable,
            environment: options.environment(of: "source")
        )
        serverEvents = StatusEvents(of: server)
        let listening = try serverEvents.wait(for: "listening")
        guard let port = listening["port"]?.integer else { throw TestFailure("no port in \(listening)") }
        self.port = port
        let isProxied = options.isProxied || options.stallsAfter != nil || options.stallsStreamAfter != nil
        proxy = isProxied ? try CuttingProxy(to: port) : nil
        if let place = options.stallsAfter { proxy?.plan(.stall, at: place) }
        if let place = options.stallsStreamAfter {
            proxy?.plan(.stall, connection: Self.streamConnection, .toClient, at: place)
        }
        restorer = try Self.startRestorer(proxy?.port ?? port, options)
        restorerEvents = StatusEvents(of: restorer)
    }

    deinit {
        killRestorerAndKeeper()
        restorer.end()
        if let copy, copyIsOurs, processIsAlive(copy) { kill(copy, SIGKILL) }
        server.end()
    }

    static func startServer(
        _ pid: Int32,
        _ arguments: [String] = [],
        on cable: Cable? = nil,
        environment: [String] = []
    ) throws -> TestProcess {
        let certificates = try Certificates.directory()
        let record = arguments.contains("--record") ? [] : ["--no-record"]
        let words = ["page-server", "-t", "\(pid)", "--port", "0", "--tls-dir", certificates, "--status-fd", "3"]
        let (program, prefix) = cable?.command(.source) ?? (BuiltProduct.thaw, [])
        return try TestProcess(
            program,
            prefix + words + (cable.map { ["--address", $0.sourceAddress] } ?? []) + record + arguments,
            options: .init(output: .null, environment: environment, statusPipe: true)
        )
    }

    static func startRestorer(_ port: Int, _ options: Options = Options()) throws -> TestProcess {
        let certificates = try options.clientCertificates ?? Certificates.directory()
        let preCopy = options.preCopies ? [] : ["--no-pre-copy"]
        // Three connections, whatever the number of CPUs.
        let streams = options.destination.contains("--streams") ? [] : ["--streams", "1"]
        let words = ["restore", "--port", "\(port)", "--tls-dir", certificates, "--status-fd", "3"] + preCopy + streams
        let address = options.cable.map { ["--address", $0.sourceAddress, "--server-name", "localhost"] } ?? []
        let (program, prefix) = options.cable?.command(.destination) ?? (BuiltProduct.thaw, [])
        return try TestProcess(
            program,
            prefix + words + address + options.destination,
            options: .init(
                input: options.input,
                output: options.output,
                errors: options.errors,
                environment: options.environment(of: "destination"),
                statusPipe: true
            )
        )
    }

    /// Waits until the copy runs; its pid.
    @discardableResult
    func waitUntilRunning() throws -> Int32 {
        let event: JSONValue
        do {
            event = try restorerEvents.wait(for: "running")
        } catch {
            throw TestFailure("\(error)\npage server: \(server.report())")
        }
        guard let pid = event["pid"]?.integer else { throw TestFailure("no pid in \(event)") }
        copy = Int32(pid)
        return Int32(pid)
    }

    /// Waits until nothing is owed any more and the page server has ended with `status`.
    func waitUntilComplete(status: Int32 = 0) throws {
        do {
            try restorerEvents.wait(for: "complete")
        } catch {
            throw TestFailure("\(error)\npage server: \(server.report())")
        }
        let ending = try server.waitForExit()
        guard ending == .exited(status) else { throw TestFailure("the page server: \(ending); \(server.report())") }
    }

    /// Ends the restorer, and nobody takes over.
    func killRestorerAndKeeper() {
        if let crew = try? Crew(of: restorer.pid) { crew.kill() } else { restorer.signal(9) }
    }

    /// The copy is somebody else's to end.
    func giveAway() -> Int32? {
        copyIsOurs = false
        return copy
    }
}

/// A victim whose words go to a file, so that it can be moved and read all the same.
struct MovableVictim {
    let folder: Scratch
    let process: TestProcess

    /// Starts a victim in `mode` with the folder of the run and `arguments`, perhaps on the source of a cable, and waits until it is ready.
    init(_ mode: String, _ arguments: [String] = [], on cable: Cable? = nil) throws {
        folder = try Scratch(mode)
        let (program, prefix) = cable?.command(.source, BuiltProduct.victim) ?? (BuiltProduct.victim, [])
        process = try TestProcess(
            program,
            prefix + [mode, folder.path] + arguments,
            options: .init(output: .file(folder.file("out")), errors: .file(folder.file("err")), directory: "/")
        )
        do {
            try waitForLine { $0 == "ready" }
        } catch {
            process.end()
            throw error
        }
    }

    var pid: Int32 { process.pid }

    /// What it has said so far.
    var lines: [String] {
        ((try? readText(folder.file("out"))) ?? "").split(separator: "\n").map(String.init)
    }

    /// Creates a file that it waits for.
    func tell(_ name: String) throws {
        try writeFile(folder.file(name), "")
    }

    /// Waits for a line.
    @discardableResult
    func waitForLine(_ matches: (String) -> Bool) throws -> String {
        do {
            try wait(for: "a line") {
                if lines.contains(where: matches) { return true }
                if try process.pollForExit() == .exited(71) { throw TestFailure("the victim is broken") }
                return false
            }
        } catch {
            let words = (try? readText(folder.file("err"))) ?? ""
            throw TestFailure("\(error); the victim said \(lines); stderr: \(words)")
        }
        return lines.first(where: matches) ?? ""
    }

    /// Tells the victim that the moves are over, and its verdict: `ok NAME` or `wrong NAME: what`.
    func verdict() throws -> String {
        try tell("go")
        let verdict = try waitForLine { $0.hasPrefix("ok ") || $0.hasPrefix("wrong ") }
        let words = (try? readText(folder.file("err"))) ?? ""
        return words.isEmpty ? verdict : "\(verdict) (stderr: \(words))"
    }
}

/// Lends a victim to `body` and leaves nothing of it behind.
func withMovableVictim<Result>(
    _ mode: String,
    _ arguments: [String] = [],
    on cable: Cable? = nil,
    _ body: (MovableVictim) throws -> Result
) throws -> Result {
    let victim = try MovableVictim(mode, arguments, on: cable)
    defer { victim.process.end() }
    return try body(victim)
}
