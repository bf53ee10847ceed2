// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
public import Logging
public import Reporting
public import Userfaultfd

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
            // Before keys are loaded: both keep a copy of this process's memory.
            let guardian = try Guardian()
            let journal = options.isKept ? try EventJournal() : nil
            conversation = try makeConversation(options, guardian, journal)
        } catch {
            return failed(error)
        }
        let outcome = conversation.run()
        return (outcome, conversation.statistics)
    }

    /// Serves the process of a restorer that has died, from its journal; as ``run()``, detached.
    public func takeOver(_ journal: EventJournal) -> (outcome: Outcome, statistics: SessionStatistics) {
        var options = options
        options.attached = false
        options.tracked = false
        let conversation: DestinationConversation
        do throws(SystemCallError) {
            let known = journal.facts.guardian
            let channel = try OwnedDescriptor.adoptInherited(known.channel)
            let guardian = Guardian(adopting: channel, pid: known.pid)
            conversation = try makeConversation(options, guardian, journal)
            // From now on the keeper of this program is the one who sees it die.
            conversation.keeper?.replaceParent()
        } catch {
            return failed(error)
        }
        let outcome = conversation.takeOver()
        return (outcome, conversation.statistics)
    }

    private func makeConversation(
        _ options: RestoreOptions,
        _ guardian: Guardian,
        _ journal: EventJournal?
    ) throws(SystemCallError) -> DestinationConversation {
        let keeper = try journal.map { journal throws(SystemCallError) in try Keeper(over: journal) }
        let signals = try SignalDescriptor([
            .interrupt, .terminate, .hangup, .quit, .user1, .user2, .windowChange,
        ])
        return DestinationConversation(
            options: options,
            callbacks: callbacks,
            loop: try ControlLoop(signals: signals, sendTimeout: .seconds(30)),
            guardian: guardian,
            journal: journal,
            keeper: keeper,
            shared: try RestoreShared(),
            status: status,
            logger: logger
        )
    }

    private func failed(_ error: SystemCallError) -> (outcome: Outcome, statistics: SessionStatistics) {
        let failure = SessionFailure(.systemCall, "\(error)")
        status.report(.failed(code: failure.code.rawValue, message: failure.message))
        return (Outcome(failure), SessionStatistics())
    }
}
