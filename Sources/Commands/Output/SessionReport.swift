// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import Logging
internal import Reporting

/// Status lines, log entries and files that a session leaves behind, the same on both sides.
struct SessionReport: Sendable {
    private let options: ReportingOptions
    let logger: Logger
    let status: StatusSink

    /// Opens what has been asked for and writes the pid file.
    ///
    /// - Throws: ``SessionFailure`` when the pid file cannot be written.
    init(options: ReportingOptions, logger: Logger) throws(SessionFailure) {
        self.options = options
        self.logger = logger
        let lines = options.statusFd.map { StatusSink(descriptor: OwnedDescriptor(adopting: $0)) }
        status = StatusSink { event in
            lines?.report(event)
            Self.log(event, to: logger)
        }
        if let path = options.pidfile {
            try Self.write("\(getpid())\n", to: path, option: "--pidfile")
        }
    }

    /// Writes the statistics and turns an outcome into an exit status.
    ///
    /// - Throws: ``SessionFailure``, the session's own or, after a success, that of writing the statistics.
    func finish(_ outcome: Outcome, _ statistics: SessionStatistics) throws(SessionFailure) -> Int32 {
        if let path = options.stats {
            do throws(SessionFailure) {
                try Self.write(statistics.json.line + "\n", to: path, option: "--stats")
            } catch {
                // The session's own failure says more.
                guard outcome.failure != nil else { throw error }
                logger.error("The statistics could not be written.", metadata: ["reason": "\(error.message)"])
            }
        }
        if let failure = outcome.failure { throw failure }
        return outcome.exitStatus
    }

    /// Writes a small file in one step, so that nobody reads half of it.
    static func write(_ text: String, to path: String, option: String) throws(SessionFailure) {
        do throws(SystemCallError) {
            try AtomicFile.write(Array(text.utf8), to: path)
        } catch {
            let code: Reporting.ExitCode =
                switch error.errno {
                case .noEntry, .notDirectory: .notFound
                case .access, .perm: .permission
                default: .systemCall
                }
            throw SessionFailure(code, "'\(option) \(path)' cannot be written: \(error).")
        }
    }

    private static func log(_ event: StatusEvent, to logger: Logger) {
        switch event {
        case .listening(let port): logger.notice("Listening.", metadata: ["port": "\(port)"])
        case .connected(let peer): logger.info("Connected.", metadata: ["peer": "\(peer)"])
        case .preCopy(let round, let pages):
            logger.info("A round of pre-copy has ended.", metadata: ["round": "\(round)", "pages": "\(pages)"])
        case .frozen: logger.info("The process is frozen.")
        case .granted: logger.info("The destination may let its copy run; this process stays frozen.")
        case .running(let pid): logger.notice("The process runs.", metadata: ["pid": "\(pid)"])
        case .lost: logger.warning("The other side is gone.")
        case .resumed: logger.notice("The other side is back.")
        case .resident: logger.info("Every page has arrived.")
        case .complete(let pages, let digest):
            logger.notice("Complete.", metadata: ["pages": "\(pages)", "digest": "\(digest)"])
        case .exited(let status): logger.info("The process has ended.", metadata: ["status": "\(status)"])
        // Said by the command itself when it ends.
        case .failed(let code, let message):
            logger.debug("Failed.", metadata: ["code": "\(code)", "reason": "\(message)"])
        }
    }
}
