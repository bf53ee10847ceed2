// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing

@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: ptrace of other processes"))
struct InjectionTests {
    /// A row of the table of interrupted calls: what the stop shows in the result register.
    private static let restartCodes: [String: Int64] = [
        "read": RestartCode.restartSystemCall, "accept": RestartCode.restartSystemCall,
        "futex": RestartCode.restartSystemCall, "pselect6": RestartCode.restartNoHandler,
        "pause": RestartCode.restartNoHandler, "clock_nanosleep-absolute": RestartCode.restartNoHandler,
        "ppoll": RestartCode.restartNoHandler, "nanosleep": RestartCode.restartBlock,
        "clock_nanosleep": RestartCode.restartBlock, "futex-timed": RestartCode.restartBlock,
        "poll": RestartCode.restartBlock, "epoll_wait": -4, "sigtimedwait": -4, "semtimedop": -4, "recv": -4,
    ]
    /// Rows whose call ends by its time-out.
    private static let timed: Set = [
        "pselect6", "clock_nanosleep-absolute", "ppoll", "nanosleep", "clock_nanosleep", "futex-timed", "poll",
        "epoll_wait", "sigtimedwait", "semtimedop", "recv",
    ]
    private static let milliseconds = 8000

    private struct Row {
        let name: String
        let tid: Int32
        let number: Int64
    }

    /// Every thread sits in its call.
    private func rows(_ victim: TracedVictim) throws -> [Row] {
        let rows = victim.lines.compactMap { line -> Row? in
            let words = line.split(separator: " ").map(String.init)
            guard words.count == 4, let tid = Int32(words[2]), let number = Int64(words[3]) else { return nil }
            return Row(name: words[1], tid: tid, number: number)
        }
        for row in rows where row.number >= 0 {
            try wait(for: "thread \(row.name) to block") {
                let call = try ProcFile.read("/proc/\(victim.pid)/task/\(row.tid)/syscall")
                // After a stop a call with a restart block is this one.
                return call.starts(with: "\(row.number) ".utf8) || call.starts(with: "\(SYS_restart_syscall) ".utf8)
            }
        }
        return rows
    }

    private func inject(_ victim: TracedVictim, _ body: (Tracee, SystemCallInjector) throws -> Void) throws {
        let rows = try rows(victim)
        try victim.frozen { (group, injector) throws in
            #expect(group.tracees.count == rows.count + 1)
            for tracee in group.tracees {
                let row = rows.first { $0.tid == tracee.tid }
                let registers = try tracee.registers()
                let state = try tracee.extendedState()
                let mask = try tracee.signalMask()
                if let row, let code = Self.restartCodes[row.name] {
                    let expected = [row.number, Int64(SYS_restart_syscall)]
                    #expect(expected.contains(registers.systemCall ?? -1), "\(row.name)")
                    #expect(registers.result == code, "\(row.name)")
                }
                try body(tracee, injector)
                #expect(try tracee.registers() == registers, "\(row?.name ?? "main")")
                #expect(try tracee.extendedState() == state, "\(row?.name ?? "main")")
                #expect(try tracee.signalMask() == mask, "\(row?.name ?? "main")")
                // A bare stop shows EINTR for these, as kernel.md 1.3 says; their call is made again.
                if registers.result == -Int64(EINTR), registers.systemCall != nil {
                    var again = registers
                    again.rewind()
                    try tracee.setRegisters(again)
                }
            }
        }
    }

    @Test func injectedCallsLeaveNothingInThreadsInAnyBlockingCall() throws {
        let victim = try TracedVictim("trace-blocked", "\(Self.milliseconds)")
        _ = try rows(victim)
        let before = try ProcessSnapshot(of: victim.pid)
        try inject(victim) { _, _ in }
        try inject(victim) { (tracee, injector) throws in
            #expect(try injector.call(SYS_gettid, on: tracee) == Int64(tracee.tid))
            #expect(try injector.call(SYS_close, 9999, on: tracee) == -Int64(EBADF))
        }
        try inject(victim) { (tracee, injector) throws in
            var batch = CallBatch()
            let tid = batch.call(SYS_gettid)
            let stack = batch.output(24)
            let got = batch.call(SYS_sigaltstack, .int(0), .data(stack))
            let results = try injector.run(batch, on: tracee)
            #expect(results[tid] == Int64(tracee.tid))
            #expect(results[got] == 0)
        }
        #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
        try victim.process.input?.write("go\n")
        try expectUndisturbed(victim)
        #expect(try victim.process.waitForExit() == .exited(0))
    }

    /// No call returned early or with an error that only the stops could have caused.
    private func expectUndisturbed(_ victim: TracedVictim) throws {
        var seen: Set<String> = []
        for line in try victim.process.output?.rest() ?? [] where line.hasPrefix("row ") {
            let words = line.split(separator: " ").map(String.init)
            try #require(words.count == 5, "\(line)")
            seen.insert(words[1])
            #expect(words[2] == (words[1] == "read" ? "1" : "0"), "\(line)")
            if Self.timed.contains(words[1]) {
                #expect((Int(words[4]) ?? 0) >= Self.milliseconds - 20, "\(line)")
            }
        }
        #expect(seen == Set(Self.restartCodes.keys).union(["user"]))
    }

    @Test func aBatchChainsResultsAndReturnsItsData() throws {
        let victim = try TracedVictim("trace-memory")
        let before = try ProcessSnapshot(of: victim.pid)
        try victim.frozen { (group, injector) throws in
            var batch = CallBatch()
            let path = batch.path("/dev/zero")
            let opened = batch.call(SYS_openat, .int(AT_FDCWD), .data(path), .int(O_RDONLY))
            let buffer = batch.data([7, 7, 7, 7, 7, 7, 7, 7, 7])
            let got = batch.call(SYS_read, .result(opened), .data(buffer, offset: 1), .int(7))
            let closed = batch.call(SYS_close, .result(opened))
            let again = batch.call(SYS_close, .result(opened))
            let results = try injector.run(batch, on: group.leader)
            #expect(results[opened] >= 3)
            #expect(results[got] == 7)
            #expect(results[buffer] == [7, 0, 0, 0, 0, 0, 0, 0, 7])
            #expect(results.word(buffer) == 7)
            #expect(results[closed] == 0)
            #expect(results[again] == -Int64(EBADF))
        }
        #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
    }

    @Test func batchesRunInAllThreadsAtOnce() throws {
        let victim = try TracedVictim("trace-blocked", "100")
        try victim.frozen { (group, injector) throws in
            let work = group.tracees.map { tracee in
                var batch = CallBatch()
                for _ in 0..<50 { batch.call(SYS_gettid) }
                return (tracee, batch)
            }
            let results = try injector.runOnAll(work)
            for (tracee, result) in zip(group.tracees, results) {
                #expect(result.results == [Int64](repeating: Int64(tracee.tid), count: 50))
            }
        }
    }

    @Test func anEmptyBatchIsNoWork() throws {
        let victim = try TracedVictim("trace-memory")
        try victim.frozen { (group, injector) throws in
            #expect(try injector.run(CallBatch(), on: group.leader).results == [])
        }
    }

    @Test(arguments: ["default", "ignored", "pending", "handled"])
    func aBatchLeavesSIGTRAPAsItWas(how: String) throws {
        let victim = try TracedVictim("trace-trap", how)
        let before = try victim.ask("state")
        try victim.frozen { (group, injector) throws in
            var batch = CallBatch()
            let pid = batch.call(SYS_getpid)
            let zero = batch.call(SYS_openat, .int(AT_FDCWD), .data(batch.path("/dev/zero")), .int(O_RDONLY))
            let closed = batch.call(SYS_close, .result(zero))
            let results = try injector.run(batch, on: group.leader)
            #expect(results[pid] == Int64(victim.pid))
            #expect(results[closed] == 0)
        }
        #expect(try victim.ask("state") == before)
        _ = try victim.ask("unblock")
        let expected =
            switch how {
            case "ignored": "ignored 1 pending 0 handled 0"
            case "pending": "ignored 0 pending 0 handled 1"
            default: "ignored 0 pending 0 handled 0"
            }
        #expect(try victim.ask("state") == expected)
    }

    @Test func aForeignSIGTRAPDuringABatchIsDeliveredAfterwards() throws {
        let victim = try TracedVictim("trace-trap", "handled")
        try victim.frozen { (group, injector) throws in
            var batch = CallBatch()
            batch.call(SYS_getpid)
            batch.call(SYS_tgkill, .int(victim.pid), .int(victim.pid), .int(SIGTRAP))
            let last = batch.call(SYS_getpid)
            #expect(try injector.run(batch, on: group.leader)[last] == Int64(victim.pid))
        }
        #expect(try victim.ask("state") == "ignored 0 pending 0 handled 1")
    }

    @Test func signalsThatArriveWhileFrozenAreDeliveredOnce() throws {
        let victim = try TracedVictim("trace-trap", "handled")
        try victim.frozen { (group, injector) throws in
            victim.process.signal(SIGTRAP)
            #expect(try injector.call(SYS_getpid, on: group.leader) == Int64(victim.pid))
            var batch = CallBatch()
            batch.call(SYS_getpid)
            #expect(try injector.run(batch, on: group.leader).results == [Int64(victim.pid)])
            #expect(try group.leader.pendingSignals(shared: true).count == 1)
        }
        #expect(try victim.ask("state") == "ignored 0 pending 0 handled 1")
    }

    @Test func aStoppedProcessStaysStopped() throws {
        let victim = try TracedVictim("trace-trap", "default")
        victim.process.signal(SIGSTOP)
        try wait(for: "the stop") { processState(victim.pid) == "T" }
        try victim.frozen { (group, injector) throws in
            #expect(group.wasStoppedBySignal)
            #expect(try injector.call(SYS_getpid, on: group.leader) == Int64(victim.pid))
            var batch = CallBatch()
            batch.call(SYS_getpid)
            #expect(try injector.run(batch, on: group.leader).results == [Int64(victim.pid)])
        }
        try wait(for: "the stop again") { processState(victim.pid) == "T" }
        victim.process.signal(SIGCONT)
        #expect(try victim.ask("state") == "ignored 0 pending 0 handled 0")
    }

    @Test(arguments: [false, true])
    func aSIGSTOPThatArrivesBeforeAnInjectedCallIsNotLost(inBatch: Bool) throws {
        let victim = try TracedVictim("trace-blocked", "100")
        try victim.frozen { (group, injector) throws in
            #expect(!group.wasStoppedBySignal)
            victim.process.signal(SIGSTOP)
            for tracee in group.tracees {
                if inBatch {
                    var batch = CallBatch()
                    batch.call(SYS_gettid)
                    #expect(try injector.run(batch, on: tracee).results == [Int64(tracee.tid)])
                } else {
                    #expect(try injector.call(SYS_gettid, on: tracee) == Int64(tracee.tid))
                }
            }
        }
        try wait(for: "the stop") { processState(victim.pid) == "T" }
        victim.process.signal(SIGCONT)
        try victim.process.input?.write("go\n")
        #expect(try victim.process.waitForExit() == .exited(0))
    }

    @Test func aNewThreadIsTracedFromItsFirstInstruction() throws {
        let victim = try TracedVictim("trace-memory")
        let group = try TraceeGroup.freeze(victim.pid, options: [.traceClone], deadline: .after(patience))
        let injector = try SystemCallInjector(memory: ProcessMemory(pid: victim.pid))
        // CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM: macros of sched.h that Swift does not see.
        let flags: UInt64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000
        let call = InjectedCall(SYS_clone, [flags, 0, 0, 0, 0])
        let (result, made) = try injector.callCreatingThread(call, on: group.leader)
        let thread = try #require(made)
        #expect(result == Int64(thread.tid))
        group.add(thread)
        #expect(try ProcFile.threads(of: victim.pid) == [victim.pid, thread.tid].sorted())
        #expect(try injector.call(SYS_gettid, on: thread) == Int64(thread.tid))
        // It stands behind the injected instruction on the leader's stack: it must not run, so everything ends here.
        try group.kill(deadline: .after(patience))
        #expect(try victim.process.waitForExit() == .signaled(SIGKILL))
    }
}
