// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import LinuxSystem
internal import PageServer
internal import Reporting

/// `thaw status`: what page servers of this machine have left behind.
struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "List moves from here, and what is left of them.",
        discussion: """
            Every page server records its session. A process that was granted and whose page server has ended stays \
            stopped; this tells which ones there are, and what can be done about each.

            examples:
              sudo thaw status
              thaw status --format json
            """
    )

    @Option(name: .long, help: ArgumentHelp("The folder with the records.", valueName: "dir"), completion: .directory)
    var record = SessionFolder.standard

    @Option(name: .long, help: ArgumentHelp("Form of the result: text or json.", valueName: "format"))
    var format = OutputFormat.text

    func run() throws {
        let sessions = try SessionFolder(record).sessions()
        switch format {
        case .json: StandardStream.output.write(Self.json(sessions).line + "\n")
        case .text: StandardStream.output.write(Self.text(sessions, in: record))
        }
    }

    static func json(_ sessions: [RecordedSession]) -> JSON {
        .list(
            sessions.map { session in
                .object([
                    .init("pid", .integer(Int64(session.record.process.pid))),
                    .init("session", .text(session.record.session)),
                    .init("state", .text(session.record.state.rawValue)),
                    .init("process", .text(session.processState.rawValue)),
                    .init("pageServer", session.isServed ? .integer(Int64(session.record.server.pid)) : .null),
                    .init("peer", .text(session.record.peer)),
                    .init("advice", .text(session.advice)),
                ])
            }
        )
    }

    static func text(_ sessions: [RecordedSession], in folder: String) -> String {
        guard !sessions.isEmpty else { return "No session is recorded in \(folder).\n" }
        return sessions.map { session in
            let record = session.record
            let server = session.isServed ? "page server \(record.server.pid) at work" : "no page server"
            return
                "process \(record.process.pid), session \(record.session) with \(record.peer): \(record.state.rawValue); "
                + "process \(session.processState.rawValue), \(server)\n    \(session.advice)\n"
        }.joined()
    }
}

/// `thaw settle`: an operator's word about a process that is left over.
struct SettleCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "settle",
        abstract: "Decide what becomes of a process that is left.",
        discussion: """
            For a process whose page server has ended. With --thaw it runs on here, which is refused when its copy may run \
            at the destination; with --drop it is ended. A process that has got the id meanwhile is never touched.

            examples:
              sudo thaw settle 1234 --drop
              sudo thaw settle 1234 --thaw --force
            """
    )

    @Argument(help: ArgumentHelp("The process, or the session as thaw status names it.", valueName: "pid|session"))
    var name: String

    @Flag(name: .customLong("thaw"), help: "Let the process run on here.")
    var thaw = false

    @Flag(name: .customLong("drop"), help: "End the process, or forget one that has ended.")
    var drop = false

    @Flag(
        name: .long,
        help: "Even if a copy may run at the destination (--thaw), or the process is not stopped (--drop)."
    )
    var force = false

    @Option(name: .long, help: ArgumentHelp("The folder with the records.", valueName: "dir"), completion: .directory)
    var record = SessionFolder.standard

    func validate() throws {
        guard thaw != drop else { throw ValidationError("One of '--thaw' and '--drop' is needed.") }
    }

    func run() throws {
        let folder = SessionFolder(record)
        let session = try folder.session(named: name)
        let words = try folder.settle(session, thaw ? .thaw : .drop, isForced: force)
        StandardStream.output.write(words + "\n")
    }
}
