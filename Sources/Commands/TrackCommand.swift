// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import DirtyTracking
internal import LinuxSystem
internal import Reporting

/// `thaw track`: how fast a process writes memory.
struct TrackCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "track",
        abstract: "Show how fast a running process writes memory.",
        discussion: """
            Looks at the process at regular intervals and shows how many of its pages were written in between, and how \
            long sending them would take: what a move of the process has to expect. Ends with Ctrl-C, after the given \
            number of rounds, or with the process. The process is stopped once, for about a millisecond, at the \
            beginning; nothing is left in it, however this program ends.

            With -v the mappings that were written most are listed below each round, with -vv all of them; with \
            '--format json' both list all.

            examples:
              thaw track -t 1234
              thaw track -t 1234 --interval 0.1 --rounds 600 --format json >writes.json
            """
    )

    @Option(
        name: [.customShort("t"), .customLong("tree")],
        help: ArgumentHelp("The process to look at.", valueName: "pid")
    )
    var pid: Int32

    @Option(name: .long, help: ArgumentHelp("Time between two looks.", valueName: "seconds"))
    var interval = 1.0

    @Option(name: .long, help: ArgumentHelp("End after so many rounds.", valueName: "n"))
    var rounds: UInt32?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How writes are noticed; with none, all pages count as written. soft-dirty disturbs a process that uses these "
                + "bits itself.",
            valueName: "tracker"
        )
    )
    var tracker = TrackerArgument(.auto)

    @Option(
        name: .long,
        help: ArgumentHelp("Form of the result: text, or json, one object a line.", valueName: "format")
    )
    var format = OutputFormat.text

    @Option(
        name: .long,
        help: ArgumentHelp(
            "What can be sent a second, for the estimates of the pause: bytes, or with a unit as in 100MB, 1GiB, 10Gbit.",
            valueName: "bandwidth"
        )
    )
    var bandwidth = Bandwidth(bytesPerSecond: 0x1p30)

    @Flag(name: .shortAndLong, help: "List the mappings that were written most; twice: all of them.")
    var verbose: Int

    /// Shorter ones are longer than what a look takes.
    private static let intervals = 0.001...86_400

    func validate() throws {
        guard pid > 0 else { throw ValidationError("'-t \(pid)' is no process id.") }
        guard Self.intervals.contains(interval) else {
            throw ValidationError("'--interval' must be between 0.001 and 86400 seconds.")
        }
        guard rounds != 0 else { throw ValidationError("'--rounds' must be at least 1.") }
    }

    func run() throws {
        let run = TrackRun(
            pid: pid,
            interval: .seconds(interval),
            rounds: rounds,
            choice: tracker.choice,
            bandwidth: bandwidth,
            renderer: renderer,
            write: { StandardStream.output.write($0) }
        )
        try run.run()
    }

    private var renderer: any TrackRenderer {
        switch format {
        case .text: TrackText(picture: .of(.output), mappingLimit: [0, Self.fewMappings, .max][min(verbose, 2)])
        case .json: TrackJSON(listsMappings: verbose > 0)
        }
    }

    /// Mappings that are listed with `-v`.
    private static let fewMappings = 10
}
