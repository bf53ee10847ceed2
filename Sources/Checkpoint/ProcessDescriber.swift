// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import ProcessTrace

/// Fills in the description of a process whose threads are stopped.
///
/// Threads are asked in one batch for what only they know; everything else comes from `/proc` and from calls about others.
final class ProcessDescriber {
    let pid: Int32
    let process: StoppedProcess
    var cache: ExaminationCache
    var survey: Survey
    var description = ProcessDescription()
    /// Index of a file in the description by its path.
    var fileIndices: [String: UInt32] = [:]
    /// What maps and opens each file.
    private(set) lazy var filesByPath = Dictionary(grouping: survey.usedFiles, by: \.path)
    /// Index of a shared object in the description.
    var objectIndices: [ExaminationCache.ObjectKey: UInt32] = [:]
    /// By which link of `/proc` the contents of each shared object can be read.
    var objectAccess: [String] = []
    /// Index of a pipe in the description.
    var pipeIndices: [ExaminationCache.ObjectKey: UInt32] = [:]

    init(_ process: StoppedProcess, cache: ExaminationCache) throws {
        pid = process.pid
        self.process = process
        self.cache = cache
        let known = process.threads.compactMap { thread in thread.status.map { (thread.tracee.tid, $0) } }
        survey = try Survey.take(
            pid,
            .frozen,
            cache: &self.cache,
            known: Dictionary(known, uniquingKeysWith: { first, _ in first })
        )
        for thread in process.threads { findUnusual(thread) }
    }

    /// Finds what only a stopped thread shows.
    ///
    /// A call of ours in one whose calls are redirected would kill the process, so this must be known before the first one.
    private func findUnusual(_ thread: StoppedThread) {
        let name = "thread \(thread.tracee.tid)"
        if thread.dispatchesSystemCalls { survey.find(.systemCallDispatch, name) }
        if !thread.call.is64Bit { survey.find(.thirtyTwoBit, name) }
        if thread.number == nil { survey.find(.uninterruptibleCall, "\(name) (in restart_syscall)") }
    }

    var memory: ProcessMemory { process.memory }

    /// Describes everything.
    ///
    /// - Throws: ``CheckpointError`` with all findings when something cannot be carried.
    func describe() throws {
        guard survey.findings.isEmpty else { throw CheckpointError(refusing: pid, survey.findings) }
        try describeMachine()
        try describeIdentity()
        try describeMappings()
        try describeDescriptors()
        try askThreads()
        guard survey.findings.isEmpty else { throw CheckpointError(refusing: pid, survey.findings) }
    }

    func interruptedCall(of thread: StoppedThread) -> InterruptedCall? {
        var call = InterruptedCall()
        call.number = thread.number ?? thread.call.number
        call.timeLeft = thread.timeLeft
        switch thread.continuation {
        case .none: return nil
        case .byKernel: call.continuation = .byKernel
        case .restartBlock: call.continuation = .restartBlock
        case .again: call.continuation = .again
        }
        return call
    }
}
