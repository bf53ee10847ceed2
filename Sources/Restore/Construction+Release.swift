// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import ProcessTrace

// The last steps: interrupted calls, queued signals, registers, and letting go.
extension Construction {
    /// Gives a thread the registers with which it goes on.
    ///
    /// Only the leader makes calls afterwards, none of which sleeps.
    func prepareToGo(_ thread: ThreadDescription, _ tracee: Tracee) throws(RestoreError) {
        if tracee !== leader {
            let arena = stub.threadArena(goingOn.count)
            try queue(thread.pendingSignals, of: thread.tid, in: arena, on: tracee)
            try queueTraps(thread.pendingSignals, of: thread.tid, in: arena, on: tracee)
        }
        let registers = try continuation(of: thread, tracee)
        try RestoreError.trace("set the extended registers of thread \(thread.tid)") { () throws(TraceError) in
            try tracee.setExtendedState(thread.extendedState)
        }
        goingOn.append(registers)
        guard tracee !== leader else { return }
        try runner.setRegisterWords(registers, of: tracee)
        try RestoreError.trace("set the signal mask of thread \(thread.tid)") { () throws(TraceError) in
            try tracee.setSignalMask(thread.signalMask)
        }
    }

    /// The registers that make the interrupted call of a thread go on as if nothing had happened.
    private func continuation(of thread: ThreadDescription, _ tracee: Tracee) throws(RestoreError) -> [UInt64] {
        var words = thread.registers
        guard words.count == RegisterIndex.count else {
            throw RestoreError(.badDescription, "thread \(thread.tid) has \(words.count) registers")
        }
        let result = Int64(bitPattern: words[RegisterIndex.rax])
        guard Int64(bitPattern: words[RegisterIndex.originalRAX]) >= 0 else { return words }
        switch thread.interruptedCall?.continuation {
        case .again?:
            rewind(&words, to: thread)
            shortenTimeout(&words, of: thread)
        case .restartBlock?:
            try restart(thread, tracee, &words)
        case .byKernel?, nil:
            // A restart block of ours does not exist: what the kernel would make of it is EINTR.
            if result == RestartCode.restartBlock { finishCall(&words, result: -Int64(EINTR)) }
        }
        return words
    }

    /// Makes the thread execute the system call again.
    private func rewind(_ words: inout [UInt64], to thread: ThreadDescription) {
        words[RegisterIndex.rax] = thread.interruptedCall?.number ?? words[RegisterIndex.originalRAX]
        words[RegisterIndex.rip] &-= StubCode.systemCallBytes
        words[RegisterIndex.originalRAX] = .max
    }

    /// The time-out of epoll_wait(2) is a number of milliseconds in the fourth argument, so the rest of it can take its place; a
    /// compiler does not expect that register to survive a function call.
    private func shortenTimeout(_ words: inout [UInt64], of thread: ThreadDescription) {
        guard let call = thread.interruptedCall, call.timeLeft >= 0,
            [SYS_epoll_wait, SYS_epoll_pwait].contains(Int32(truncatingIfNeeded: call.number))
        else { return }
        words[RegisterIndex.r10] = Self.milliseconds(call.timeLeft)
    }

    /// Milliseconds, rounded up.
    private static func milliseconds(_ nanoseconds: Int64) -> UInt64 {
        let (whole, rest) = max(0, nanoseconds).quotientAndRemainder(dividingBy: 1_000_000)
        return UInt64(rest == 0 ? whole : whole + 1)
    }

    private func finishCall(_ words: inout [UInt64], result: Int64) {
        words[RegisterIndex.rax] = UInt64(bitPattern: result)
        words[RegisterIndex.originalRAX] = .max
    }

    /// Makes the call with the time that is left and interrupts it before it sleeps, so that the thread has a restart block of its
    /// own; the kernel goes on with that when the thread is let go.
    ///
    /// A call without a relative time-out reads the same arguments again, and so is simply made again.
    private func restart(
        _ thread: ThreadDescription,
        _ tracee: Tracee,
        _ words: inout [UInt64]
    ) throws(RestoreError) {
        guard let call = thread.interruptedCall, call.timeLeft >= 0,
            let arguments = try timedArguments(call, words, arena: StubBatch(arena: stub.leaderArena))
        else {
            rewind(&words, to: thread)
            return
        }
        var calling = words
        for (index, argument) in zip(RegisterIndex.arguments, arguments) { calling[index] = argument }
        calling[RegisterIndex.rax] = call.number
        calling[RegisterIndex.rip] = runner.systemCallAddress
        calling[RegisterIndex.originalRAX] = .max
        try runner.setRegisterWords(calling, of: tracee)
        let purpose = "make system call \(call.number) of thread \(thread.tid) again"
        try RestoreError.trace(purpose) { () throws(TraceError) in try tracee.resumeToSystemCall() }
        try runner.expect(.systemCall, of: tracee, purpose)
        // A stop that is asked for counts as a signal: the call finds it and returns instead of sleeping.
        try RestoreError.trace(purpose) { () throws(TraceError) in
            try tracee.interrupt()
            try tracee.resumeToSystemCall()
        }
        try runner.expect(.systemCall, of: tracee, purpose)
        let result = Int64(bitPattern: try runner.registerWords(of: tracee)[RegisterIndex.rax])
        guard result != RestartCode.restartBlock else {
            words[RegisterIndex.rax] = UInt64(bitPattern: RestartCode.restartBlock)
            words[RegisterIndex.originalRAX] = call.number
            return
        }
        if [RestartCode.restartSystemCall, RestartCode.restartNoInterrupt, RestartCode.restartNoHandler].contains(
            result
        ) {
            rewind(&words, to: thread)
        } else {
            finishCall(&words, result: result)
        }
    }

    /// The arguments of a call with its relative time-out replaced by the time left; nil for calls that have none.
    private func timedArguments(
        _ call: InterruptedCall,
        _ words: [UInt64],
        arena batch: consuming StubBatch
    ) throws(RestoreError) -> [UInt64]? {
        var arguments = RegisterIndex.arguments.map { words[$0] }
        let position: Int
        switch Int32(truncatingIfNeeded: call.number) {
        case SYS_nanosleep: position = 0
        // TIMER_ABSTIME.
        case SYS_clock_nanosleep where arguments[1] & 1 == 0: position = 2
        // Only FUTEX_WAIT has a relative time-out; the two flags say whose futex and which clock.
        case SYS_futex where arguments[1] & 0x7f == 0: position = 3
        case SYS_poll:
            arguments[2] = Self.milliseconds(call.timeLeft)
            return arguments
        default: return nil
        }
        let time = Self.parts(call.timeLeft, of: 1)
        arguments[position] = batch.place(words: [time.0, time.1])
        try runner.write(batch.data, to: batch.arena.data)
        return arguments
    }

    /// Lets the process go: guards, timers, queued signals, the end of the stub, registers.
    func release(guards: [AddressRange]) throws(RestoreError) {
        try runner.run(over: guards, on: leader, callsPerItem: 1, bytesPerItem: 0) {
            (range: AddressRange, batch) throws(RestoreError) in
            batch.call(
                SYS_madvise,
                range.lowerBound.rawValue,
                range.byteCount,
                Kernel.guardInstall,
                for: "install guard pages at \(range) (Linux 6.13)"
            )
        }
        try queue(description.signals.pending, of: nil, in: stub.leaderArena, on: leader)
        try queue(
            description.threads[0].pendingSignals,
            of: description.threads[0].tid,
            in: stub.leaderArena,
            on: leader
        )
        var batch = runner.makeBatch()
        addTimerStarts(to: &batch)
        addTimerDescriptorStarts(to: &batch)
        for mapping in description.memory.mappings where mapping.has("sl") {
            batch.call(Kernel.sealMapping, mapping.start, mapping.end - mapping.start, 0, for: "seal \(mapping.range)")
        }
        try runner.run(batch, on: leader)
        try setTrapAction()
        try queueTraps(description.signals.pending, of: nil, in: stub.leaderArena, on: leader)
        try queueTraps(
            description.threads[0].pendingSignals,
            of: description.threads[0].tid,
            in: stub.leaderArena,
            on: leader
        )
        try runner.runSingle(
            SYS_munmap,
            [stub.range.lowerBound.rawValue, stub.range.byteCount],
            for: "unmap the stub",
            on: leader
        )
        try runner.setRegisterWords(goingOn[0], of: leader)
        try RestoreError.trace("set the signal mask") { () throws(TraceError) in
            try leader.setSignalMask(description.threads[0].signalMask)
        }
        if description.signals.stopped { kill(spawned.pid, SIGSTOP) }
        // Until the last thread is let go the death of this program still ends the process (PTRACE_O_EXITKILL).
        for index in try releaseTimedCalls() {
            let tracee = tracees[index]
            try RestoreError.trace("let thread \(tracee.tid) go") { () throws(TraceError) in try tracee.detach() }
        }
        try handOver()
    }
}
