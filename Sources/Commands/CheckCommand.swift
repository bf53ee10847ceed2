// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxSystem
internal import Reporting

/// `thaw check`: what this machine can do.
struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Tell what this machine can do, and remedies.",
        discussion: """
            Asks the running kernel rather than its version, as the user who runs it; nothing is changed. Exits with 0 \
            when both sides of a move can work here, with 69 when the machine lacks something required, and with 77 \
            when only a permission is missing.

            examples:
              sudo thaw check
              thaw check --format json
            """
    )

    @Option(name: .long, help: ArgumentHelp("Form of the result: text or json.", valueName: "format"))
    var format = OutputFormat.text

    func run() throws {
        let report = MachineReport(.probe())
        StandardStream.output.write(report.rendered(as: format))
        guard report.exitCode == .done else { throw ArgumentParser.ExitCode(report.exitCode.rawValue) }
    }
}
