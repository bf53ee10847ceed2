// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LazyRestore
internal import LinuxSystem
internal import Logging
internal import Reporting
internal import Userfaultfd

/// `thaw restore`: the destination's side of a move.
struct RestoreCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Rebuild a process here and run it, lazily.",
        discussion: """
            Fetches the description of the process from a page server, builds it, and lets it run; its memory arrives on \
            first touch and in the background. Stays until the process ends, passes signals on to it, and exits with its \
            status (128 + signal for a signal).

            examples:
              thaw restore --address 192.0.2.7 --port 7443 --tls-dir certs/dev
              thaw restore --port 7443 --tls-dir certs/dev --new-pid-namespace \\
                --detach --restored-pidfile moved.pid
            """
    )

    @Option(name: .long, help: ArgumentHelp("Where the page server listens.", valueName: "host"))
    var address = "127.0.0.1"

    @Option(name: .long, help: ArgumentHelp("TCP port of the page server.", valueName: "n"))
    var port: UInt16

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Name that the page server's certificate must carry; without it the address.",
            valueName: "name"
        )
    )
    var serverName: String?

    @Flag(
        name: .customLong("new-pid-namespace"),
        help: ArgumentHelp(
            "Own pid and mount namespace with a fresh /proc, so that the original thread ids are free; needed when "
                + "source and destination are one machine."
        )
    )
    var newPIDNamespace = false

    @Flag(name: .long, help: "Fetch everything before the process runs.")
    var eager = false

    @Flag(
        name: .customLong("no-pre-copy"),
        help: "Fetch nothing before the process is frozen; as '--pre-copy-rounds 0'."
    )
    var noPreCopy = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Fetch pages in at most so many rounds while the process still runs at the source.",
            valueName: "n"
        )
    )
    var preCopyRounds: UInt32 = 8

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Freeze the process as soon as what is left to fetch takes no longer than this.",
            valueName: "milliseconds"
        )
    )
    var maxPause: UInt32 = 50

    @Option(
        name: .long,
        help: ArgumentHelp(
            "What becomes of the process when its source stays lost: wait (threads that need a page do), stop it until the "
                + "source is back, poison what has not come (who touches it gets SIGBUS until the source is back), or kill it "
                + "and its descendants. The source is looked for all the same.",
            valueName: "policy"
        )
    )
    var onSourceLoss: OnSourceLoss?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How long the source may be lost before '--on-source-loss', which is stop then unless it is given; 30 without it.",
            valueName: "seconds"
        )
    )
    var lossTimeout: UInt32?

    @Flag(
        name: .customLong("track"),
        help: ArgumentHelp(
            "Let the pages arrive write-protected and tell how many of them the process has written, until it ends; a daemon "
                + "stays for that until the process or SIGTERM ends it."
        )
    )
    var tracked = false

    @Flag(
        name: .long,
        help: "Return 0 as soon as the process runs; a daemon fetches the rest and ends when everything is there."
    )
    var detach = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Write the pid of the restored process, as seen from here, to this file.",
            valueName: "file"
        ),
        completion: .file()
    )
    var restoredPidfile: String?

    @Flag(name: .long, help: "No progress line; there is none anyway when standard error is not a terminal.")
    var noProgress = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Over how many connections pages that nobody waits for come, at most \(RestoreOptions.maximumStreams). Without it a "
                + "quarter of the number of CPUs, at least 1 and at most 4.",
            valueName: "n"
        )
    )
    var streams: Int?

    @OptionGroup
    var spin: SpinOption

    @OptionGroup(title: "TLS options")
    var tls: TLSOptions

    @OptionGroup(title: "Reporting options")
    var reporting: ReportingOptions

    @OptionGroup(title: "Logging options")
    var logging: LoggingOptions

    func validate() throws {
        guard port > 0 else { throw ValidationError("'--port' must be the port that the page server names.") }
        guard !address.isEmpty else { throw ValidationError("'--address' needs a name or an address.") }
        guard lossTimeout == nil || onSourceLoss != .wait else {
            throw ValidationError("'--loss-timeout' and '--on-source-loss wait' exclude each other.")
        }
        guard (1...RestoreOptions.maximumStreams).contains(streams ?? 1) else {
            throw ValidationError("'--streams' must be 1 to \(RestoreOptions.maximumStreams).")
        }
        guard preCopyRounds <= RestoreOptions.maximumPreCopyRounds else {
            throw ValidationError("'--pre-copy-rounds' must be at most \(RestoreOptions.maximumPreCopyRounds).")
        }
    }

    func run() throws {
        if let journal = try Self.inheritedJournal() { return try takeOver(journal) }
        guard detach else { return try restore(reportingTo: nil) }
        guard let caller = Detachment.takeReport() else { return try runInBackground() }
        do {
            try restore(reportingTo: caller)
        } catch {
            // Says nothing when the process already runs: the caller has gone with 0.
            caller.send(code: UInt8(clamping: Self.status(of: error)))
            throw error
        }
    }

    /// What a restorer has left that died, when its keeper has started this program.
    private static func inheritedJournal() throws(SessionFailure) -> EventJournal? {
        do throws(SystemCallError) {
            return try Keeper.inheritedJournal()
        } catch {
            throw SessionFailure(.systemCall, "The journal of the restorer that died cannot be read: \(error).")
        }
    }

    private func takeOver(_ journal: EventJournal) throws {
        let report = try SessionReport(options: reporting, logger: logging.makeLogger(over: nil))
        let session = RestoreSession(options: options, logger: report.logger, status: report.status)
        let (outcome, statistics) = session.takeOver(journal)
        let status = try report.finish(outcome, statistics)
        guard status == 0 else { throw ArgumentParser.ExitCode(status) }
    }

    /// Starts this command again as a daemon; its words until the process runs come out of the same descriptors.
    private func runInBackground() throws {
        let outcome: Detachment.Outcome
        do throws(SystemCallError) {
            outcome = try Detachment.start()
        } catch {
            throw SessionFailure(.systemCall, "The daemon could not be started: \(error).")
        }
        switch outcome {
        case .reported(0): return
        case .reported(let code): throw ArgumentParser.ExitCode(Int32(code))
        case .ended(let status):
            throw SessionFailure(.bug, "The daemon ended before the process ran (wait status \(status)).")
        }
    }

    private func restore(reportingTo caller: Detachment.Report?) throws {
        do throws(SystemCallError) {
            // The guardian is a child and inherits it. Nothing else may be given up here that the restored process would inherit.
            try ProcessSecrecy.begin()
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
        let line = showsProgress ? ProgressLine() : nil
        let report = try SessionReport(options: reporting, logger: logging.makeLogger(over: line))
        var callbacks = RestoreCallbacks()
        callbacks.onRunning = { [restoredPidfile, logger = report.logger] pid in
            Self.announce(pid: pid, in: restoredPidfile, logger: logger)
            caller?.send(code: 0)
        }
        if let line { callbacks.onProgress = { line.show($0) } }
        let session = RestoreSession(
            options: options,
            callbacks: callbacks,
            logger: report.logger,
            status: report.status
        )
        let (outcome, statistics) = session.run()
        let status = try report.finish(outcome, statistics)
        guard status == 0 else { throw ArgumentParser.ExitCode(status) }
    }

    private var options: RestoreOptions {
        var options = RestoreOptions(port: port)
        options.address = address
        options.tls = tls.location
        options.serverName = serverName
        options.newPIDNamespace = newPIDNamespace
        options.eager = eager
        options.tracked = tracked
        options.preCopyRounds = noPreCopy ? 0 : preCopyRounds
        options.maximumPause = .milliseconds(maxPause)
        options.attached = !detach
        options.isKept = true
        options.streams = streams
        options.spin = spin.time
        options.onSourceLoss = onSourceLoss?.policy ?? (lossTimeout == nil ? .wait : .stop)
        if let lossTimeout { options.lossTimeout = .seconds(lossTimeout) }
        return options
    }

    private var showsProgress: Bool {
        !noProgress && !detach && !logging.quiet && StandardStream.error.isTerminal
    }

    private static func announce(pid: Int32, in path: String?, logger: Logger) {
        guard let path else { return }
        do throws(SessionFailure) {
            try SessionReport.write("\(pid)\n", to: path, option: "--restored-pidfile")
        } catch {
            // The process runs; it would be wrong to end it for a file.
            logger.error("The pid file could not be written.", metadata: ["reason": "\(error.message)"])
        }
    }

    private static func status(of error: any Error) -> Int32 {
        if let failure = error as? SessionFailure { return failure.code.rawValue }
        return (error as? ArgumentParser.ExitCode)?.rawValue ?? Reporting.ExitCode.bug.rawValue
    }
}

/// The words of `--on-source-loss`.
enum OnSourceLoss: String, ExpressibleByArgument, CaseIterable, Sendable {
    case wait
    case stop
    case poison
    case kill

    var policy: SourceLossPolicy {
        switch self {
        case .wait: .wait
        case .stop: .stop
        case .poison: .poison
        case .kill: .kill
        }
    }
}
