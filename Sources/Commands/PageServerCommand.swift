// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import DirtyTracking
internal import LinuxSystem
internal import PageServer
internal import Reporting

/// `thaw page-server`: the source's side of a move.
struct PageServerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "page-server",
        abstract: "Offer a running process to an authorised restorer.",
        discussion: """
            Examines the process while it runs, listens, freezes it when a restorer has been authorised, and serves its \
            memory until everything has arrived. Before the restorer has been granted the process, any failure lets it \
            run on as if nothing had happened; after that it stays frozen whatever becomes of the connection.

            examples:
              thaw page-server -t 1234 --port 7443 --tls-dir certs/dev
              thaw page-server -t 1234 --address 192.0.2.7 --port 7443 \\
                --tls-dir /etc/thaw --allow restorer.example --status-fd 3 3>status
            """
    )

    @Option(
        name: [.customShort("t"), .customLong("tree")],
        help: ArgumentHelp("The process to move.", valueName: "pid")
    )
    var pid: Int32

    @Option(name: .long, help: ArgumentHelp("Listen on this address or name.", valueName: "host"))
    var address = "127.0.0.1"

    @Option(name: .long, help: ArgumentHelp("Listen on this TCP port; 0 picks a free one.", valueName: "n"))
    var port: UInt16 = 0

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Serve only peers whose certificate carries this DNS name or URI; may be given several times. "
                + "Without it any peer that the authority has certified is served.",
            valueName: "name"
        )
    )
    var allow: [String] = []

    @Flag(
        inversion: .prefixedNo,
        help: "Let the restorer fetch pages while the process still runs, where the kernel can track writes."
    )
    var preCopy = true

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How writes are noticed while pages are sent before the freeze; where auto finds no way, nothing is sent.",
            valueName: "tracker"
        )
    )
    var tracker = TrackerArgument(.auto)

    @Option(
        name: .long,
        help: ArgumentHelp(
            "What becomes of the process once everything has arrived: kill, stop, or continue (which makes a clone).",
            valueName: "action"
        )
    )
    var onComplete = OnComplete.kill

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How long to keep a granted process for a destination that was lost before this program ends and leaves the "
                + "process stopped; for ever without it.",
            valueName: "seconds"
        )
    )
    var hold: UInt32?

    @OptionGroup
    var spin: SpinOption

    @Option(
        name: .long,
        help: ArgumentHelp("Record the session in this folder, for thaw status and thaw settle.", valueName: "dir"),
        completion: .directory
    )
    var record = SessionFolder.standard

    @Flag(name: .customLong("no-record"), help: "Record nothing.")
    var noRecord = false

    @OptionGroup(title: "TLS options")
    var tls: TLSOptions

    @OptionGroup(title: "Reporting options")
    var reporting: ReportingOptions

    @OptionGroup(title: "Logging options")
    var logging: LoggingOptions

    func validate() throws {
        guard pid > 0 else { throw ValidationError("'-t \(pid)' is no process id.") }
        guard !allow.contains("") else { throw ValidationError("'--allow' needs a name.") }
        guard preCopy || [.auto, .none].contains(tracker.choice) else {
            throw ValidationError("'--no-pre-copy' and '--tracker \(tracker.choice.rawValue)' exclude each other.")
        }
    }

    func run() throws {
        var options = PageServerOptions(pid: pid)
        options.address = address
        options.port = port
        options.tls = tls.location
        options.allow = allow
        options.preCopy = preCopy
        options.tracker = tracker.choice
        options.onComplete = onComplete.action
        options.record = noRecord ? nil : record
        options.hold = hold.map { .seconds($0) }
        options.spin = spin.time
        do throws(SystemCallError) {
            try ProcessSecrecy.begin()
            try ProcessSecrecy.forbidNewPrivileges()
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
        let report = try SessionReport(options: reporting, logger: logging.makeLogger())
        let session = PageServerSession(options: options, logger: report.logger, status: report.status)
        let (outcome, statistics) = session.run()
        let status = try report.finish(outcome, statistics)
        guard status == 0 else { throw ArgumentParser.ExitCode(status) }
    }
}

/// The words of `--on-complete`.
enum OnComplete: String, ExpressibleByArgument, CaseIterable, Sendable {
    case kill
    case stop
    case `continue`

    var action: CompletionAction {
        switch self {
        case .kill: .kill
        case .stop: .stop
        case .continue: .continue
        }
    }
}
