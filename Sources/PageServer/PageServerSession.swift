// SPDX-License-Identifier: Apache-2.0
public import Logging
public import Reporting

/// The source's half of a move: examine, listen, freeze, describe, grant, serve, complete.
public struct PageServerSession {
    private let options: PageServerOptions
    private let logger: Logger
    private let status: StatusSink

    /// Prepares a session; nothing happens before ``run()``.
    public init(options: PageServerOptions, logger: Logger, status: StatusSink) {
        self.options = options
        self.logger = logger
        self.status = status
    }

    /// Runs the session to its end on the calling thread, which becomes the tracer of the process.
    ///
    /// Never throws: whatever goes wrong is in the outcome. Blocks SIGINT, SIGTERM and SIGHUP in the calling thread and reads them itself.
    public func run() -> (outcome: Outcome, statistics: SessionStatistics) {
        let failure = SessionFailure(.unavailable, "the page server is not there yet")
        status.report(.failed(code: failure.code.rawValue, message: failure.message))
        return (Outcome(failure), SessionStatistics())
    }
}
