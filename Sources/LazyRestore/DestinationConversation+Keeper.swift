// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LazyPages
internal import LinuxSystem
internal import Logging
internal import PageWire
internal import Paging
internal import Reporting
internal import Userfaultfd

// While pages are owed three programs hold the userfaultfds: this one, its keeper and its guardian. Each dead one of them is replaced;
// when this one and the keeper die together, the guardian kills the process.
extension DestinationConversation {
    /// The threads run: from now on they are taken over when this program dies.
    func mayBeTakenOver() {
        guard let journal else { return }
        noteFacts(in: journal)
        journal.phase = .owed
    }

    private func noteFacts(in journal: EventJournal) {
        guard let memory, let process else { return }
        let (known, features) = memory.with(.fault) { ($0.userfaultfds, $0.features) }
        // The process may have ended already: then nothing is owed to it, and children have userfaultfds of their own.
        guard let userfaultfd = known.first(where: { $0.space == .process })?.descriptor else { return }
        var facts = JournalFacts(
            pid: statistics.pid,
            process: process.descriptor,
            userfaultfd: userfaultfd,
            features: features,
            guardian: (guardian.pid, guardian.descriptor),
            session: session.bytes,
            froze: froze
        )
        facts.isStopped = isStoppedForLoss
        facts.staged = staged?.descriptor ?? -1
        facts.objects = known.first { $0.space == .objects }?.descriptor ?? -1
        journal.facts = facts
    }

    /// Nothing is owed any more, or nobody is there to whom it is: this program may end.
    func endKeeping() {
        journal?.phase = .idle
        if let keeper { try? loop.unwatch(keeper.process.descriptor) }
        keeper?.end()
        keeper = nil
    }

    /// Says once that nobody takes over any more.
    func lookAtJournal() {
        guard !saidJournalIsFull, let journal, journal.phase == .owed, journal.isFull else { return }
        saidJournalIsFull = true
        logger.error(
            "There is no room to note what another restorer has to know; if this program dies before every page is there, the process is killed"
        )
    }

    func keeperDied() {
        guard let dead = keeper, let journal else { return }
        try? loop.unwatch(dead.process.descriptor)
        dead.end()
        keeper = nil
        do throws(SystemCallError) {
            let fresh = try Keeper(over: journal)
            keeper = fresh
            try loop.watch(fresh.process.descriptor, token: Token.keeper)
            logger.warning("The keeper died; there is another one")
        } catch {
            logger.error(
                "The keeper died, and there is no other; if this program dies before every page is there, the process is killed",
                metadata: ["reason": "\(error)"]
            )
        }
    }

    func guardianDied() {
        try? loop.unwatch(guardian.descriptor)
        guard !isFinished, completed == nil, let memory else { return }
        do throws(SystemCallError) {
            try guardian.restart(
                holding: { memory.with(.fault) { $0.userfaultfds.map(\.descriptor) } },
                noted: { pid, channel in journal?.facts.guardian = (pid, channel) }
            )
            try loop.watchForEnd(of: guardian.descriptor, token: Token.guardian)
            logger.warning("The guardian died; there is another one")
        } catch {
            logger.error(
                "The guardian died, and there is no other; if this program dies before every page is there, the process reads zeros",
                metadata: ["reason": "\(error)"]
            )
        }
    }
}

// MARK: - In place of a restorer that has died

extension DestinationConversation {
    /// Serves a process that runs already; its source is lost and looked for.
    func takeOver() -> Outcome {
        guard let journal else { preconditionFailure("DestinationConversation: there is nothing to take over") }
        do {
            try resume(journal)
        } catch let failure as SessionFailure {
            return notTakenOver(failure)
        } catch {
            return notTakenOver(SessionFailure(.systemCall, "\(error)"))
        }
        return serveToTheEnd()
    }

    private func resume(_ journal: EventJournal) throws {
        let facts = journal.facts
        guard let session = SessionIdentifier(bytes: facts.session) else { preconditionFailure("32 bytes are an id") }
        self.session = session
        placeThreads(of: session)
        statistics.pid = facts.pid
        froze = facts.froze
        isStoppedForLoss = facts.isStopped
        ran = .now
        let process = ProcessDescriptor(adopting: try OwnedDescriptor.adoptInherited(facts.process))
        self.process = process
        // The machine has come to where the other one was.
        _ = (commit.built(), commit.grantArrived(), commit.released())
        shared.copyWasTakenOver()
        try loop.watch(shared.events.descriptor, token: Token.connections)
        let state = try MemoryState.takingOver(RestoreJournal(events: journal))
        let (isComplete, owesGuards) = (state.isComplete, state.owesGuards)
        if isComplete {
            // The source may have accepted a COMPLETE: nothing must be able to kill the copy any more.
            try? guardian.release()
        } else {
            // The dead one may have told it nothing yet.
            for (_, descriptor) in state.userfaultfds { try guardian.hold(userfaultfd: descriptor) }
            try guardian.doom(pidfd: process.descriptor, pid: facts.pid)
        }
        staged = state.staged
        let hasStaged = staged != nil
        try serveFaults(of: state, over: nil)
        if hasStaged, let memory { try StagedThread.start(memory, shared) }
        if owesGuards { memory?.lateGuards.signal() }
        noteFacts(in: journal)
        try startReconnecting()
        try watchForCompletion()
        watchProcess()
        report(.tookOver(pid: facts.pid))
        tellServiceManager(of: facts.pid)
        let death = SessionFailure(.interrupted, "the restorer that served the process has died")
        shared.lost(Loss(death, isFinal: false), of: generation, isControl: true)
        noteLoss(death)
    }

    /// The main process of the service was the restorer that has died; this one is nobody's child, and the process is init's.
    private func tellServiceManager(of pid: Int32) {
        do throws(SystemCallError) {
            try ServiceManager.tellMainProcess(pid)
        } catch {
            logger.warning("The service manager could not be told which process runs", metadata: ["error": "\(error)"])
        }
    }

    /// Ends without letting go of anything: the keeper tries once more.
    private func notTakenOver(_ failure: SessionFailure) -> Outcome {
        report(.failed(code: failure.code.rawValue, message: failure.message))
        statistics.result = "interrupted"
        return Outcome(failure)
    }
}
