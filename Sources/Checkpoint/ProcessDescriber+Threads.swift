// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import ProcessTrace

extension ProcessDescriber {
    /// Asks all threads at once and describes them, and what the process has once.
    func askThreads() throws {
        let timers = try PosixTimerEntry.read(pid)
        let stopped = process.threads
        var questions = stopped.map { _ in ThreadQuestions() }
        let processQuestions = questions[0].addProcessQuestions(timers: timers)
        let isTried = survey.flagsAreRemembered
        let trial = isTried ? questions[0].addRegistrationTrial(of: survey.mappings.map(\.entry), cache.tracker) : nil
        let work = zip(stopped, questions).map { ($0.tracee, $1.batch) }
        let injector = process.injector
        let needed = areaBytes(timers.count) + (trial?.byteCount ?? 0)
        var contest = false
        let began = MonotonicTime.now
        let results = try injector.withArea(byteCount: needed, on: stopped[0].tracee) {
            () throws(TraceError) in
            let results = try injector.runOnAll(work)
            if try trial?.outcome(results[0], of: process) != .free { contest = isTried }
            try seeLockedMemory()
            return results
        }
        let statuses = Dictionary(survey.threads.map { ($0.tid, $0.status) }, uniquingKeysWith: { first, _ in first })
        for (index, thread) in stopped.enumerated() {
            guard let status = statuses[thread.tracee.tid] else {
                throw TraceError(.unexpected, "thread \(thread.tracee.tid) is stopped but not listed")
            }
            let answers = questions[index].answers(results[index])
            if index == 0 {
                description.settings.parentDeathSignal = answers.deathSignal
            } else if answers.deathSignal != 0 {
                survey.find(.parentDeathSignal, "thread \(thread.tracee.tid) (signal \(answers.deathSignal))")
            }
            try describe(thread, status, answers)
        }
        if contest { try survey.surveyRegistrations(cache) }
        read(processQuestions, results[0])
        description.signals.stopped = process.wasStoppedBySignal
        let answers = processQuestions.timers?.answers(results[0], innerID: innerID) ?? TimerDescription()
        try describeTimersAndSignals(answers, timers, began: began)
    }

    /// Room for the batches of all threads: 64 bytes a call, and what the calls fill.
    private func areaBytes(_ timers: Int) -> Int {
        (32 << 10) + 256 * timers + 1024 * process.threads.count
    }

    /// mlockall(MCL_FUTURE) shows in new mappings only: in the memory for the batches.
    private func seeLockedMemory() throws(TraceError) {
        let now = try ProcessStatus.read(pid)
        guard now.lockedKilobytes > survey.status.lockedKilobytes else { return }
        let known = Set(survey.mappings.map(\.entry.range))
        let added = try ProcessMaps.readDetailed(pid).filter { !known.contains($0.range) }
        let isOnFault = added.contains { $0.details?.has("lf") ?? false }
        description.memory.lockFutureFlags = isOnFault ? 2 | 4 : 2
    }

    private func describe(_ stopped: StoppedThread, _ status: ProcessStatus, _ answers: ThreadQuestions.Answers) throws
    {
        let tracee = stopped.tracee
        var thread = ThreadDescription()
        thread.tid = status.namespacePIDs.last ?? tracee.tid
        thread.name = try ProcFile.read("/proc/\(pid)/task/\(tracee.tid)/comm").filter { $0 != 0x0a }
        thread.registers = stopped.call.registers
        thread.extendedState = try tracee.extendedState()
        thread.signalMask = stopped.mask
        thread.alternateStack.address = answers.alternateStack.address
        thread.alternateStack.flags = answers.alternateStack.flags
        thread.alternateStack.size = answers.alternateStack.size
        if let rseq = try tracee.rseqConfiguration() {
            thread.rseqAddress = rseq.address
            thread.rseqSize = rseq.size
            thread.rseqSignature = rseq.signature
        }
        let robust = try ThreadAttributes.robustList(of: tracee.tid)
        thread.robustListHead = robust.head
        thread.robustListLength = robust.length
        thread.clearChildTID = answers.clearChildTID
        thread.credentials = credentials(status, secureBits: answers.secureBits)
        thread.scheduling.attributes = try ThreadAttributes.scheduling(of: tracee.tid)
        thread.scheduling.affinity = try ThreadAttributes.affinity(of: tracee.tid)
        thread.scheduling.ioPriority = try ThreadAttributes.ioPriority(of: tracee.tid)
        thread.timerSlack = answers.timerSlack
        thread.interruptedCall = interruptedCall(of: stopped)
        description.machine.extendedStateSize = UInt32(thread.extendedState.count)
        description.threads.append(thread)
    }

    private func credentials(_ status: ProcessStatus, secureBits: UInt32) -> Credentials {
        var credentials = Credentials()
        credentials.realUser = status.users[0]
        credentials.effectiveUser = status.users[1]
        credentials.savedUser = status.users[2]
        credentials.fileSystemUser = status.users[3]
        credentials.realGroup = status.groupIDs[0]
        credentials.effectiveGroup = status.groupIDs[1]
        credentials.savedGroup = status.groupIDs[2]
        credentials.fileSystemGroup = status.groupIDs[3]
        credentials.groups = status.groups
        credentials.inheritableCapabilities = status.inheritableCapabilities
        credentials.permittedCapabilities = status.permittedCapabilities
        credentials.effectiveCapabilities = status.effectiveCapabilities
        credentials.boundingCapabilities = status.boundingCapabilities
        credentials.ambientCapabilities = status.ambientCapabilities
        credentials.secureBits = secureBits
        credentials.noNewPrivileges = status.noNewPrivileges
        return credentials
    }

    // MARK: What the process has once

    private func read(_ questions: ProcessQuestions, _ results: BatchResults) {
        description.signals.actions = questions.actions.map { slot in
            var action = SignalAction()
            action.handler = results.word(slot)
            action.flags = results.word(slot, at: 8)
            action.restorer = results.word(slot, at: 16)
            action.mask = results.word(slot, at: 24)
            return action
        }
        description.settings.limits = questions.limits.flatMap { [results.word($0), results.word($0, at: 8)] }
        if let brk = questions.brk { description.memory.layout.brk = UInt64(bitPattern: results[brk]) }
        if let dumpable = questions.dumpable {
            description.settings.dumpable = UInt32(truncatingIfNeeded: max(0, results[dumpable]))
        }
        if let disabled = questions.hugePagesDisabled { description.memory.hugePagesDisabled = results[disabled] == 1 }
        if let subreaper = questions.subreaper {
            description.settings.childSubreaper = results.word(subreaper) & 0xffff_ffff != 0
        }
        findUnusual(questions, results)
    }

    private func findUnusual(_ questions: ProcessQuestions, _ results: BatchResults) {
        if let option = questions.noWriteExecute, results[option] > 0 {
            survey.find(.processControl, "process \(pid) (PR_SET_MDWE)")
        }
        if let option = questions.flusher, results[option] > 0 {
            survey.find(.processControl, "process \(pid) (PR_SET_IO_FLUSHER)")
        }
        if let slot = questions.tsc, results.word(slot) & 0xffff_ffff == 2 {
            survey.find(.processControl, "process \(pid) (PR_SET_TSC)")
        }
        if let child = questions.child, results[child] != -Int64(ECHILD) {
            // Which one it is is told where it can be; the kernel's answer counts.
            let children = (try? Neighbours.children(of: pid)) ?? []
            let names = children.map { "child process \($0) (\(Survey.name(of: $0)))" }
            for name in names.isEmpty ? ["a child process"] : names { survey.find(.children, name) }
        }
    }

    /// The id of a thread as the process sees it; 0 for one that is not of this process.
    func innerID(_ tid: Int32) -> Int32 {
        survey.threads.first { $0.tid == tid }?.status.namespacePIDs.last ?? 0
    }
}
