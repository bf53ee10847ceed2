// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import Logging
internal import Reporting

/// Status lines and files that a session leaves behind, the same on both sides.
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
        if let statusFd = options.statusFd {
            status = StatusSink(descriptor: OwnedDescriptor(adopting: statusFd))
        } else {
            status = StatusSink()
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
}
