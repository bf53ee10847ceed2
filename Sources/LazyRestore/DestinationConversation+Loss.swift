// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Logging
internal import ProcessTrace
internal import Reporting
internal import Userfaultfd

// What the operator wants of a process whose source stays lost. A thread that waits for a page inside of a system call can be killed
// and cannot be stopped before the page comes.
extension DestinationConversation {
    /// The source has just been lost.
    func lossBegan() {
        guard options.onSourceLoss != .wait, completed == nil else { return }
        lossLimit = .after(options.lossTimeout)
    }

    /// The source is back, or nothing is needed of it any more.
    func lossEnded() {
        lossLimit = .never
        guard isStoppedForLoss else { return }
        isStoppedForLoss = false
        _ = try? process?.send(.resume)
        journal?.facts.isStopped = false
        logger.notice("The source is back; the process goes on")
    }

    /// The source has been lost for as long as it may be.
    func sourceStaysLost() {
        lossLimit = .never
        guard isLost, !isFinished, exitStatus == nil, let process else { return }
        switch options.onSourceLoss {
        case .wait: return
        case .stop: stop(process)
        case .poison: poison(process)
        case .kill:
            logger.error("The process is killed: its source has been lost for too long")
            wasKilled = true
            killWithDescendants(process)
        }
    }

    private func poison(_ process: ProcessDescriptor) {
        do throws(SystemCallError) {
            let poisoned = try memory?.with(.fault) { state throws(SystemCallError) in try state.poisonOwed() }
            guard let pages = poisoned ?? nil else {
                logger.warning(
                    "Pages cannot be poisoned here, or it is not known yet which exist; the process is stopped instead"
                )
                return stop(process)
            }
            logger.error(
                "The process gets SIGBUS where it touches a page that has not come: its source has been lost for too long",
                metadata: ["process.id": "\(statistics.pid)", "pages": "\(pages)"]
            )
        } catch {
            logger.error("Pages could not be poisoned; the process is stopped", metadata: ["reason": "\(error)"])
            stop(process)
        }
    }

    private func stop(_ process: ProcessDescriptor) {
        // One that somebody else has stopped is not ours to continue.
        guard let stat = try? ProcessStat.read(statistics.pid), stat.state != "T" else { return }
        // Noted before: who takes over has to continue it.
        journal?.facts.isStopped = true
        guard (try? process.send(.stop)) == true else { return }
        isStoppedForLoss = true
        logger.error(
            "The process is stopped until its source is back, which has been lost for too long",
            metadata: ["process.id": "\(statistics.pid)"]
        )
    }

    /// Children that it has forked miss the same pages.
    private func killWithDescendants(_ process: ProcessDescriptor) {
        var descendants: [ProcessDescriptor] = []
        // Stopped first, as far as it can be, so that it forks no more.
        _ = try? process.send(.stop)
        collect(childrenOf: statistics.pid, into: &descendants)
        _ = try? process.send(.kill)
        for descendant in descendants { _ = try? descendant.send(.kill) }
        _ = giveUpForLoss()
    }

    private func collect(childrenOf pid: Int32, into found: inout [ProcessDescriptor]) {
        for child in (try? ProcFile.children(of: pid)) ?? [] {
            if let descriptor = try? ProcessDescriptor(pid: child) { found.append(descriptor) }
            collect(childrenOf: child, into: &found)
        }
    }
}
