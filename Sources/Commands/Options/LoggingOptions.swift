// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxSystem
internal import Logging

/// How much is said on standard error, and in which form.
struct LoggingOptions: ParsableArguments {
    @Flag(name: .shortAndLong, help: "Say more: -v what an operator may want, -vv what a developer wants.")
    var verbose: Int

    @Flag(name: .long, help: "Say nothing but errors.")
    var quiet = false

    @Option(name: .long, help: ArgumentHelp("Form of the log on standard error: text or json.", valueName: "format"))
    var logFormat = OutputFormat.text

    func validate() throws {
        guard !(quiet && verbose > 0) else {
            throw ValidationError("'--quiet' and '--verbose' exclude each other.")
        }
    }

    /// The least important level that is written.
    var level: Logger.Level {
        if quiet { return .error }
        return switch verbose {
        case 0: .notice
        case 1: .info
        case 2: .debug
        default: .trace
        }
    }

    /// The logger that a command hands down; `line` is cleared before each entry.
    func makeLogger(over line: ProgressLine? = nil) -> Logger {
        let format = logFormat
        let level = level
        return Logger(label: "thaw") { _ in
            StandardErrorLogHandler(format: format, logLevel: level, line: line)
        }
    }
}

/// For people or for programs.
enum OutputFormat: String, ExpressibleByArgument, CaseIterable, Sendable {
    case text
    case json
}
