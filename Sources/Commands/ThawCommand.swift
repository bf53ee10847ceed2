// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser

/// The command `thaw`; everything it does is in its subcommands.
struct ThawCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "thaw",
        abstract: "Move a running Linux process to another machine, lazily.",
        discussion: """
            The process runs on the destination within milliseconds; its memory stays on the source and arrives page by \
            page, on first touch and by a background stream, over mutually authenticated TLS.

            on the source:
              thaw page-server -t PID --address HOST --port 7443 --tls-dir certs/dev
            on the destination:
              thaw restore --address HOST --port 7443 --tls-dir certs/dev

            Exit codes: 0 done, 64 usage, 65 bad input, 66 no such process or file, 69 the machine lacks something, \
            70 a bug, 71 a system call failed, 74 granted but not completed (the source process stays stopped), \
            75 undone: try again, 76 the peer spoke wrongly or was not authorised, 77 permission missing, \
            78 refused: the process has something that cannot be carried.
            """,
        version: "thaw 0.1.0",
        subcommands: [
            CheckCommand.self, PageServerCommand.self, RestoreCommand.self, StatusCommand.self, SettleCommand.self,
            TrackCommand.self,
        ]
    )
}
