// SPDX-License-Identifier: Apache-2.0
internal import CTestSupport
internal import Glibc

/// How a process ended.
public enum Ending: Equatable, Sendable, CustomStringConvertible {
    /// It called exit(3) with this status.
    case exited(Int32)
    /// This signal ended it.
    case signaled(Int32)

    /// For messages.
    public var description: String {
        switch self {
        case .exited(let status): "exit status \(status)"
        case .signaled(let number): "signal \(number)"
        }
    }
}

/// A program that a test started. It is killed, by its pid, when nobody refers to it any more.
///
/// Swift may end an object's life right after its last use, so a test that only needs the process to exist uses
/// ``withProcess(_:_:options:_:)`` or refers to it once more at the end.
public final class TestProcess {
    /// Where a stream leads.
    public enum Stream: Sendable {
        /// `/dev/null`.
        case null
        /// A pipe to the test.
        case pipe
        /// A file, appended to.
        case file(String)
        /// A file that is only read.
        case input(String)
    }

    /// What differs from the plain case: own session, output in a pipe, errors in a file of the run's folder.
    public struct Options: Sendable {
        public var input: Stream
        public var output: Stream
        public var errors: Stream?
        public var environment: [String]
        public var directory: String?
        public var newSession: Bool
        /// Whether descriptor 3 is the writing end of a pipe to the test, for `--status-fd 3`.
        public var statusPipe: Bool

        /// The plain case, but for what is given.
        public init(
            input: Stream = .null,
            output: Stream = .pipe,
            errors: Stream? = nil,
            environment: [String] = [],
            directory: String? = nil,
            newSession: Bool = true,
            statusPipe: Bool = false
        ) {
            self.input = input
            self.output = output
            self.errors = errors
            self.environment = environment
            self.directory = directory
            self.newSession = newSession
            self.statusPipe = statusPipe
        }
    }

    /// The process, as the test sees it.
    public let pid: Int32
    /// What was started, for messages.
    public let commandLine: String
    /// Lines of its standard output when that is a pipe.
    public let output: LineReader?
    /// Lines that it writes on descriptor 3.
    public let status: LineReader?
    /// Bytes for its standard input when that is a pipe.
    public let input: PipeWriter?

    private let errorFile: String?
    private let pidfd: Int32
    private var ending: Ending?

    /// Starts a program.
    public init(_ path: String, _ arguments: [String], options: Options = .init()) throws {
        var child: [Int32] = []
        defer { for descriptor in child { close(descriptor) } }
        let name = path.split(separator: "/").last.map(String.init) ?? path
        errorFile = options.errors == nil ? "\(Scratch.run.path)/\(name)-\(Scratch.counter.next()).stderr" : nil

        let (forInput, writer) = try Self.inputEnd(options.input)
        child.append(forInput)
        input = writer
        let (forOutput, reader) = try Self.outputEnd(options.output)
        child.append(forOutput)
        output = reader
        let (forErrors, _) = try Self.outputEnd(options.errors ?? .file(errorFile ?? "/dev/null"))
        child.append(forErrors)
        var statusReader: LineReader?
        if options.statusPipe {
            let (forStatus, reader) = try Self.outputEnd(.pipe)
            child.append(forStatus)
            statusReader = reader
        }
        status = statusReader

        commandLine = ([path] + arguments).joined(separator: " ")
        let base = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/"]
        let environment = base + ["SWIFT_BACKTRACE=enable=no"] + options.environment
        let started = Self.spawn(path, [path] + arguments, environment, options, child)
        guard started > 0 else { throw TestFailure("cannot start \(commandLine): \(errorText(-started))") }
        pid = started
        pidfd = ctest_pidfd_open(started)
    }

    deinit {
        end()
        close(pidfd)
    }

    /// Kills the process when it still runs, and reaps it.
    public func end() {
        guard ending == nil, (try? pollForExit()) == nil else { return }
        kill(pid, SIGKILL)
        _ = try? waitForExit(within: .seconds(10))
    }

    /// Sends a signal.
    public func signal(_ number: Int32) {
        guard ending == nil else { return }
        kill(pid, number)
    }

    /// How it ended, or nil when it runs.
    public func pollForExit() throws -> Ending? {
        if let ending { return ending }
        var word: Int32 = 0
        // SAFETY: `word` lives for the time of the call.
        let reaped = unsafe ctest_reap(pid, &word)
        guard reaped >= 0 else { throw TestFailure("waitpid \(pid) (\(commandLine)): \(errorText(-reaped))") }
        guard reaped == 1 else { return nil }
        let signal = word & 0x7f
        ending = signal == 0 ? .exited((word >> 8) & 0xff) : .signaled(signal)
        return ending
    }

    /// Waits for the end.
    @discardableResult
    public func waitForExit(within limit: Duration = patience) throws -> Ending {
        let deadline = ContinuousClock.now + limit
        while true {
            if let ending = try pollForExit() { return ending }
            guard ContinuousClock.now < deadline else {
                throw TestFailure("\(commandLine) (pid \(pid)) did not end within \(limit); \(report())")
            }
            if pidfd >= 0 { _ = ctest_pidfd_wait(pidfd, 50) } else { usleep(5000) }
        }
    }

    /// The next line of the standard output.
    public func readLine(within limit: Duration = patience) throws -> String {
        guard let output else { throw TestFailure("\(commandLine): its output is not a pipe") }
        guard let line = try output.next(within: limit) else {
            throw TestFailure("\(commandLine): its output ended; \(report())")
        }
        return line
    }

    /// Reads lines of the standard output until one equals `line`.
    public func waitForLine(_ line: String, within limit: Duration = patience) throws {
        var seen: [String] = []
        while true {
            let next: String
            do {
                next = try readLine(within: limit)
            } catch {
                throw TestFailure("waited for the line '\(line)', saw \(seen): \(error)")
            }
            if next == line { return }
            seen.append(next)
        }
    }

    /// What it wrote to standard error, when that goes to the file made for it.
    public var errors: String {
        guard let errorFile else { return "" }
        return (try? readText(errorFile)) ?? ""
    }

    /// State and standard error, for the message of a failed test.
    public func report() -> String {
        let state = ending.map(\.description) ?? "still running"
        return "\(state); stderr: \(errors.isEmpty ? "(empty)" : errors)"
    }
}

extension TestProcess {
    private static func inputEnd(_ stream: Stream) throws -> (child: Int32, parent: PipeWriter?) {
        switch stream {
        case .null: return (try opened("/dev/null", O_RDONLY), nil)
        case .file(let path), .input(let path): return (try opened(path, O_RDONLY), nil)
        case .pipe:
            let ends = try pipeEnds()
            return (ends.read, PipeWriter(adopting: ends.write))
        }
    }

    private static func outputEnd(_ stream: Stream) throws -> (child: Int32, parent: LineReader?) {
        switch stream {
        case .null: return (try opened("/dev/null", O_WRONLY), nil)
        case .file(let path), .input(let path): return (try opened(path, O_WRONLY | O_CREAT | O_APPEND), nil)
        case .pipe:
            let ends = try pipeEnds()
            return (ends.write, LineReader(adopting: ends.read))
        }
    }

    private static func opened(_ path: String, _ flags: Int32) throws -> Int32 {
        // SAFETY: a NUL-terminated copy for the time of the call.
        let descriptor = unsafe open(path, flags | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw TestFailure("open \(path): \(errorText())") }
        return descriptor
    }

    private static func pipeEnds() throws -> (read: Int32, write: Int32) {
        var ends: [Int32] = [-1, -1]
        // SAFETY: room for two descriptors.
        let made = unsafe ends.withUnsafeMutableBufferPointer { unsafe pipe($0.baseAddress!) }
        guard made == 0 else { throw TestFailure("pipe: \(errorText())") }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (ends[0], ends[1])
    }

    private static func spawn(
        _ path: String,
        _ arguments: [String],
        _ environment: [String],
        _ options: Options,
        _ descriptors: [Int32]
    ) -> Int32 {
        let list = arguments.map { $0 + "\0" }.joined()
        let variables = environment.map { $0 + "\0" }.joined()
        func start(_ directory: UnsafePointer<CChar>?) -> Int32 {
            // SAFETY: every pointer is lent for the time of the call; the lists end by NUL and are as long as said.
            unsafe path.withCString { path in
                unsafe list.withCString { arguments in
                    unsafe variables.withCString { environment in
                        unsafe descriptors.withUnsafeBufferPointer { descriptors in
                            var request = unsafe ctest_spawn_request(
                                path: path,
                                arguments: arguments,
                                arguments_size: list.utf8.count,
                                environment: environment,
                                environment_size: variables.utf8.count,
                                directory: directory,
                                descriptors: descriptors.baseAddress!,
                                descriptor_count: descriptors.count,
                                new_session: options.newSession ? 1 : 0
                            )
                            return unsafe ctest_spawn(&request)
                        }
                    }
                }
            }
        }
        guard let directory = options.directory else { return start(nil) }
        return unsafe directory.withCString { unsafe start($0) }
    }
}

/// Starts a program, lends it to `body`, and kills it when it has not ended by then.
public func withProcess<Result>(
    _ path: String,
    _ arguments: [String],
    options: TestProcess.Options = .init(),
    _ body: (TestProcess) throws -> Result
) throws -> Result {
    let process = try TestProcess(path, arguments, options: options)
    defer { process.end() }
    return try body(process)
}

/// Starts a victim in `mode`, waits for the line `ready`, lends it to `body`, and kills it when it has not ended by then.
public func withVictim<Result>(
    _ mode: String,
    _ arguments: [String] = [],
    options: TestProcess.Options = .init(),
    _ body: (TestProcess) throws -> Result
) throws -> Result {
    try withProcess(BuiltProduct.victim, [mode] + arguments, options: options) { victim in
        try victim.waitForLine("ready")
        return try body(victim)
    }
}
