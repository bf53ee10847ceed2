// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import Logging
internal import Reporting

/// How the writes of a process are to be noticed, and what is said where they cannot be.
///
/// What was asked for by name is had or is an error; with `auto` a move without pre-copy is better than none, but it is said.
struct TrackerPlan: Sendable {
    private let choice: TrackerChoice
    /// Nil where nobody is to hear of it.
    private let logger: Logger?

    /// No tracker, and nothing said.
    static let untracked = TrackerPlan()

    private init() {
        choice = .none
        logger = nil
    }

    init(_ options: PageServerOptions, logger: Logger) {
        choice = options.preCopy ? options.tracker : .none
        self.logger = logger
        if options.preCopy, choice == .none {
            logger.notice("Writes are not tracked: nothing is sent before the freeze")
        }
    }

    /// Whether a certain tracker was asked for.
    var isDemand: Bool { choice != .auto && choice != .none }

    /// The strategy to use.
    ///
    /// - Throws: ``SessionFailure`` with code `unavailable` when what was asked for cannot be had.
    func strategy(support: @autoclosure () -> TrackerSupport) throws(SessionFailure) -> TrackerStrategy {
        guard choice != .none else { return .none }
        do throws(TrackingError) {
            let support = support()
            let strategy = try support.strategy(for: choice)
            // Says why.
            if strategy == .none { _ = try support.strategy(for: .writeProtectAsync) }
            return strategy
        } catch {
            try giveUp(error)
            return .none
        }
    }

    /// Takes it that the process cannot be tracked.
    ///
    /// - Throws: ``SessionFailure`` when it must be, or when more has gone wrong than that.
    func giveUp(_ error: TrackingError) throws(SessionFailure) {
        guard !isDemand, error.code == .unavailable || error.code == .permission else { throw SessionFailure(error) }
        warn(error.description)
    }

    /// Takes it that devices write straight into the memory of the process, which no tracker sees.
    ///
    /// - Throws: ``SessionFailure`` with code `refused` when a certain tracker was asked for.
    func giveUpForDirectIO(of pid: Int32) throws(SessionFailure) {
        let reason = "process \(pid) has a file open for O_DIRECT: a device may write into its memory unseen"
        guard !isDemand else {
            throw SessionFailure(
                .refused,
                "\(reason); let it close the file, or move it with --tracker none in place of \(choice.rawValue)"
            )
        }
        warn(reason)
    }

    private func warn(_ reason: String) {
        logger?.warning("Writes are not tracked: nothing is sent before the freeze", metadata: ["reason": "\(reason)"])
    }
}
