// SPDX-License-Identifier: Apache-2.0
import Checkpoint
import Glibc
import ProcessImage
import TestSupport
import Testing

/// A frozen process ends in exactly one of five ways.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: ptrace of other processes"))
struct EndsTests {
    @Test func afterTheGrantTheProcessStaysStoppedEvenIfTheTracerIsKilled() async throws {
        let victim = try TestProcess(BuiltProduct.victim, ["ticking"])
        defer { victim.end() }
        try victim.waitForLine("tick 3")
        await #expect(processExitsWith: .signal(SIGKILL)) { [pid = victim.pid as Int32] in
            let frozen = try FrozenProcess.freeze(try Examination.examine(pid: pid), timeout: .seconds(20))
            try frozen.commitGranted()
            kill(getpid(), SIGKILL)
            try frozen.kill()
        }
        try wait(for: "state T") { processState(victim.pid) == "T" }
        kill(victim.pid, SIGCONT)
        try goesOn(victim)
    }

    @Test func beforeTheGrantTheProcessRunsOnWhenTheTracerIsKilled() async throws {
        let victim = try TestProcess(BuiltProduct.victim, ["ticking"])
        defer { victim.end() }
        try victim.waitForLine("tick 3")
        await #expect(processExitsWith: .signal(SIGKILL)) { [pid = victim.pid as Int32] in
            let frozen = try FrozenProcess.freeze(try Examination.examine(pid: pid), timeout: .seconds(20))
            kill(getpid(), SIGKILL)
            try frozen.kill()
        }
        try goesOn(victim)
    }

    @Test func aThawedProcessSeesNoInterruptedCall() throws {
        try withTickingVictim { victim in
            for _ in 0..<5 {
                try freeze(victim.pid).thaw()
                let lines = try [victim.readLine(), victim.readLine()]
                #expect(lines.allSatisfy { $0.hasPrefix("tick ") }, "\(lines)")
            }
        }
    }

    @Test func aFrozenProcessThatIsDroppedRunsOn() throws {
        try withTickingVictim { victim in
            do { _ = try freeze(victim.pid) }
            try goesOn(victim)
        }
    }

    @Test func aKilledProcessIsGone() throws {
        try withTickingVictim { victim in
            let frozen = try freeze(victim.pid)
            try frozen.commitGranted()
            try frozen.kill()
            #expect(try victim.waitForExit() == .signaled(SIGKILL))
        }
    }

    @Test func aProcessThatIsLeftStoppedCanBeContinued() throws {
        try withTickingVictim { victim in
            let frozen = try freeze(victim.pid)
            try frozen.commitGranted()
            try frozen.leaveStopped()
            try wait(for: "state T") { processState(victim.pid) == "T" }
            kill(victim.pid, SIGCONT)
            try goesOn(victim)
        }
    }

    @Test func aCloneGoesOnWithoutASignalOfOurs() throws {
        let folder = try Scratch("clone")
        let parts = ["threads", "queue", "registers", "actions"]
        try withVictim("carried", [folder.path] + parts) { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            let frozen = try freeze(victim.pid)
            try frozen.commitGranted()
            try frozen.continueAsClone()
            let changes = try ProcessSnapshot(of: victim.pid).changes(since: before)
            #expect(changes == [], "\(changes)")
            try writeFile(folder.file("round.1"), "")
            try victim.waitForLine("round 1 ok")
            try writeFile(folder.file("go"), "")
            let last = try victim.output?.rest().last
            #expect(last == "ok carried", "\(last ?? "nothing")")
        }
    }

    @Test(arguments: [false, true])
    func aProcessThatWasStoppedStaysStopped(granted: Bool) throws {
        try withTickingVictim { victim in
            kill(victim.pid, SIGSTOP)
            try wait(for: "state T") { processState(victim.pid) == "T" }
            let frozen = try freeze(victim.pid)
            #expect(frozen.description.signals.stopped)
            if granted {
                try frozen.commitGranted()
                try frozen.continueAsClone()
            } else {
                try frozen.thaw()
            }
            try wait(for: "state T") { processState(victim.pid) == "T" }
            kill(victim.pid, SIGCONT)
            try goesOn(victim)
        }
    }

    private func withTickingVictim(_ body: (TestProcess) throws -> Void) throws {
        try withVictim("ticking") { victim in
            try victim.waitForLine("tick 2")
            try body(victim)
        }
    }

    private func freeze(_ pid: Int32) throws -> FrozenProcess {
        try FrozenProcess.freeze(try Examination.examine(pid: pid), timeout: .seconds(20))
    }

    /// Two more ticks behind those that are in the pipe already.
    private func goesOn(_ victim: TestProcess) throws {
        for _ in 0..<6 { #expect(try victim.readLine().isEmpty == false) }
    }
}
