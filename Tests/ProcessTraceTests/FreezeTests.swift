// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing

@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: ptrace of other processes"))
struct FreezeTests {
    @Test func threadsThatComeAndGoAreAllStopped() throws {
        let victim = try TracedVictim("trace-spawner")
        for _ in 0..<10 {
            try victim.frozen { (group, injector) throws in
                let listed = try ProcFile.threads(of: victim.pid)
                #expect(group.leader.tid == victim.pid)
                let stopped = Set(group.tracees.map(\.tid))
                for tid in listed where !stopped.contains(tid) {
                    // A thread may be listed in its last moments.
                    let state = (try? ProcessStat.read(victim.pid, thread: tid))?.state
                    #expect(state == nil || state == "Z" || state == "X")
                }
                for tracee in group.tracees {
                    #expect(try injector.call(SYS_gettid, on: tracee) == Int64(tracee.tid))
                }
            }
            // It goes on: more threads have been made when it has answered twice.
            let first = try victim.ask("state")
            try wait(for: "more threads") { try victim.ask("state") != first }
        }
        try wait(for: "nobody to be traced") {
            try ProcFile.threads(of: victim.pid).allSatisfy {
                (try? ProcessStatus.read(victim.pid, thread: $0))?.tracer ?? 0 == 0
            }
        }
    }

    @Test func aTracedThreadIsReportedAsSuch() throws {
        let victim = try TracedVictim("trace-memory")
        try victim.frozen { (_, _) throws in
            #expect(code { _ = try TraceeGroup.freeze(victim.pid, deadline: .after(patience)) } == .alreadyTraced)
        }
        #expect(try ProcessStatus.read(victim.pid).tracer == 0)
    }

    @Test func aProcessThatHasEndedIsGone() throws {
        let victim = try TracedVictim("trace-memory")
        victim.process.end()
        #expect(code { _ = try TraceeGroup.freeze(victim.pid, deadline: .after(patience)) } == .gone)
        #expect(code { _ = try ProcessMemory(pid: victim.pid) } == .gone)
        #expect(code { _ = try ProcessMaps.read(victim.pid) } == .gone)
    }

    @Test func aProcessThatEndsWhileItIsFrozenIsGone() throws {
        let victim = try TracedVictim("trace-blocked", "100")
        let group = try TraceeGroup.freeze(victim.pid, deadline: .after(patience))
        let injector = try SystemCallInjector(memory: ProcessMemory(pid: victim.pid))
        victim.process.signal(SIGKILL)
        let found = code {
            // The signal may take a moment to reach the thread.
            for _ in 0..<1000 { _ = try injector.call(SYS_gettid, on: group.leader) }
        }
        #expect(found == .gone)
        try group.thaw()
        #expect(try victim.process.waitForExit() == .signaled(SIGKILL))
    }

    @Test func aRestartableSequenceBeginsAgainAfterAFreeze() throws {
        let victim = try TracedVictim("trace-rseq")
        let generation = VirtualAddress(try victim.value("generation"))
        for round in 1...5 {
            try victim.frozen { (group, injector) throws in
                for tracee in group.tracees { _ = try injector.call(SYS_gettid, on: tracee) }
                try injector.memory.writeWord(UInt64(round), to: generation)
            }
        }
        let answer = try victim.ask("finish").split(separator: " ")
        #expect(answer[1] == "5")
        #expect(try victim.process.waitForExit() == .exited(0))
    }

    @Test func aProcessWhoseFirstThreadHasEndedIsToldApart() throws {
        let victim = try TracedVictim("trace-leaderless")
        try wait(for: "the end of the first thread") { processState(victim.pid) == "Z" }
        #expect(code { _ = try TraceeGroup.freeze(victim.pid, deadline: .after(patience)) } == .leaderExited)
        for tid in try ProcFile.threads(of: victim.pid) {
            #expect(try ProcessStatus.read(victim.pid, thread: tid).tracer == 0)
        }
        victim.process.input?.finish()
        #expect(try victim.process.waitForExit() == .exited(0))
    }

    private func code(_ body: () throws -> Void) -> TraceError.Code? {
        do { try body() } catch { return (error as? TraceError)?.code }
        return nil
    }
}
