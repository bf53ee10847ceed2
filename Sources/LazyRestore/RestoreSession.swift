// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
public import Logging
public import Reporting

/// The destination's half of a move: connect, build, ask for the grant, run, serve faults, drain, complete.
public struct RestoreSession {
    private let options: RestoreOptions
    private let callbacks: RestoreCallbacks
    private let logger: Logger
    private let status: StatusSink

    /// Prepares a session; nothing happens before ``run()``.
    public init(options: RestoreOptions, callbacks: RestoreCallbacks = .init(), logger: Logger, status: StatusSink) {
        self.options = options
        self.callbacks = callbacks
        self.logger = logger
        self.status = status
    }

    /// Runs the session to its end on the calling thread, which becomes the tracer of the process that it builds.
    ///
    /// Never throws: whatever goes wrong is in the outcome. Attached, it returns when the restored process has ended, with its status;
    /// detached, when every page is there (tracked, when the process has ended or a signal asks for it). Blocks the signals that it forwards in the calling thread and reads them itself.
    public func run() -> (outcome: Outcome, statistics: SessionStatistics) {
        let conversation: DestinationConversation
        do throws(SystemCallError) {
            // Before keys are loaded: the guardian keeps a copy of this process's memory.
            let guardian = try Guardian()
            let signals = try SignalDescriptor([
                .interrupt, .terminate, .hangup, .quit, .user1, .user2, .windowChange,
            ])
            conversation = DestinationConversation(
                options: options,
                callbacks: callbacks,
                loop: try ControlLoop(signals: signals, sendTimeout: .seconds(30)),
                guardian: guardian,
                shared: try RestoreShared(),
                status: status,
                logger: logger
            )
        } catch {
            let failure = SessionFailure(.systemCall, "\(error)")
            status.report(.failed(code: failure.code.rawValue, message: failure.message))
            return (Outcome(failure), SessionStatistics())
        }
        let outcome = conversation.run()
        return (outcome, conversation.statistics)
    }
}
