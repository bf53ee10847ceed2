// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import ProcessTrace

// The threads, and what each has for itself.
extension Construction {
    /// Makes all threads but the first, by one batch: CLONE_PTRACE attaches them without a stop of their maker.
    func makeThreads() throws(RestoreError) {
        let others = Array(description.threads.dropFirst())
        try runner.run(over: others, on: leader, callsPerItem: 1, bytesPerItem: 256) {
            (thread: ThreadDescription, batch) throws(RestoreError) in
            let tid = batch.place(words: [UInt64(UInt32(bitPattern: thread.tid))])
            // struct clone_args: flags first, set_tid and set_tid_size at words 8 and 9.
            let arguments = batch.place(words: [Self.threadFlags, 0, 0, 0, 0, 0, 0, 0, tid, 1, 0])
            batch.call(
                SYS_clone3,
                arguments,
                11 * 8,
                for: "make thread \(thread.tid)",
                expecting: .value(UInt64(thread.tid))
            )
        }
        for tid in try threadsInOrder().dropFirst() {
            let tracee = try RestoreError.trace("take thread \(tid) over") { () throws(TraceError) in
                try Tracee.adopt(tid)
            }
            tracees.append(tracee)
        }
        guard tracees.count == description.threads.count else {
            throw RestoreError(.systemCall, "there are \(tracees.count) threads and not \(description.threads.count)")
        }
    }

    /// The ids as this program sees them, in the order in which the threads were made: the kernel counts up and starts
    /// again at the bottom.
    ///
    /// Each thread says its own id later, so a mistake would not go unseen.
    private func threadsInOrder() throws(RestoreError) -> [Int32] {
        let first = leader.tid
        let ids = try RestoreError.trace("list the threads") { () throws(TraceError) in
            try ProcFile.threads(of: first)
        }
        guard options.newPIDNamespace else {
            let present = Set(ids)
            return description.threads.map(\.tid).filter { present.contains($0) }
        }
        return ids.filter { $0 >= first } + ids.filter { $0 < first }
    }

    /// CLONE_VM, FS, FILES, SIGHAND, PTRACE, THREAD, SYSVSEM.
    private static let threadFlags: UInt64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x2000 | 0x10000 | 0x40000

    /// Gives every thread what it had, all at the same time.
    func furnishThreads() throws(RestoreError) {
        let own = try OwnCredentials()
        var batches: [(batch: StubBatch, tracee: Tracee)] = []
        for (index, thread) in description.threads.enumerated() {
            var batch = StubBatch(arena: stub.threadArena(index))
            addIdentity(thread, to: &batch)
            try addScheduling(thread, to: &batch)
            if thread.rseqAddress != 0 {
                batch.call(
                    SYS_rseq,
                    thread.rseqAddress,
                    UInt64(thread.rseqSize),
                    0,
                    UInt64(thread.rseqSignature),
                    for: "register rseq of thread \(thread.tid)"
                )
            }
            CredentialCalls(thread.credentials, own: own).add(to: &batch, thread: thread.tid)
            batches.append((batch, tracees[index]))
        }
        try runner.run(batches)
    }

    private func addIdentity(_ thread: ThreadDescription, to batch: inout StubBatch) {
        let who = "of thread \(thread.tid)"
        batch.call(SYS_gettid, for: "recognise thread \(thread.tid)", expecting: .value(UInt64(thread.tid)))
        batch.call(SYS_set_tid_address, thread.clearChildTID, for: "set clear_child_tid \(who)")
        if thread.robustListHead != 0 {
            batch.call(
                SYS_set_robust_list,
                thread.robustListHead,
                thread.robustListLength,
                for: "set the robust list \(who)"
            )
        }
        let alternate = thread.alternateStack
        // SS_DISABLE is what a new thread has; SS_ONSTACK only tells where the thread stands.
        if alternate.flags & 2 == 0 && alternate.size != 0 {
            let flags = UInt64(UInt32(bitPattern: alternate.flags & ~1))
            let stack = batch.place(words: [alternate.address, flags, alternate.size])
            batch.call(SYS_sigaltstack, stack, 0, for: "set the alternate signal stack \(who)")
        }
        let name = batch.place(Array(thread.name.prefix(15)) + [0])
        batch.call(SYS_prctl, Kernel.setName, name, for: "name thread \(thread.tid)")
        if thread.timerSlack != 0 {
            batch.call(SYS_prctl, Kernel.setTimerSlack, thread.timerSlack, for: "set the timer slack \(who)")
        }
    }

    private func addScheduling(_ thread: ThreadDescription, to batch: inout StubBatch) throws(RestoreError) {
        let scheduling = thread.scheduling
        if !scheduling.attributes.isEmpty {
            // PRIO_PROCESS. sched_setattr(2) does not take the nice value of a thread with a real-time policy.
            let nice = StubRunner.word(scheduling.attributes + [UInt8](repeating: 0, count: 24), at: 16)
            batch.call(
                SYS_setpriority,
                0,
                0,
                UInt64(argument: Int32(truncatingIfNeeded: nice)),
                for: "set the nice value of thread \(thread.tid)"
            )
            let attributes = batch.place(scheduling.attributes)
            batch.call(SYS_sched_setattr, 0, attributes, 0, for: "set the scheduling of thread \(thread.tid)")
        }
        // IOPRIO_WHO_PROCESS; class 0 is "none", which every thread begins with.
        if scheduling.ioPriority >> 13 != 0 {
            batch.call(
                SYS_ioprio_set,
                1,
                0,
                UInt64(argument: scheduling.ioPriority),
                for: "set the I/O priority of thread \(thread.tid)"
            )
        }
        let mask = usableCPUs(scheduling.affinity)
        guard !mask.isEmpty else { return }
        let cpus = batch.place(mask)
        batch.call(SYS_sched_setaffinity, 0, UInt64(mask.count), cpus, for: "set the CPUs of thread \(thread.tid)")
    }

    /// The CPUs of the mask that exist here; all of this program's when none does.
    private func usableCPUs(_ wanted: [UInt8]) -> [UInt8] {
        let own = ownAffinity?.mask ?? []
        let both = zip(wanted, own).map { $0 & $1 }
        if both.contains(where: { $0 != 0 }) { return Array(wanted) }
        return own
    }
}
