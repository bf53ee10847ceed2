// SPDX-License-Identifier: Apache-2.0
import Checkpoint
import Glibc
import ProcessImage
import TestSupport
import Testing

/// Sleeps go on for the time that was left, however often they are interrupted.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct SleepTests {
    /// The calls of the victim: number and time-out in seconds.
    private static let calls: [UInt64: Int64] = [7: 400, 35: 500, 230: 600, 202: 700, 232: 800, 128: 900, 441: 1000]

    @Test(.enabled(if: Machine.isRoot, "needs root: ptrace of other processes"))
    func timeLeftIsRightEachTimeTheProcessIsFrozen() throws {
        try withProcess(BuiltProduct.victim, ["sleeping"], options: .init(input: .pipe)) { victim in
            try victim.waitForLine("ready")
            try wait(for: "all threads to sleep") {
                try namesInFolder("/proc/\(victim.pid)/task").allSatisfy {
                    try readText("/proc/\(victim.pid)/task/\($0)/stat").contains(") S ")
                }
            }
            var deadlines: [UInt64: Int64] = [:]
            for round in 1...4 {
                let frozen = try FrozenProcess.freeze(try Examination.examine(pid: victim.pid), timeout: .seconds(20))
                let calls = frozen.description.threads.compactMap(\.interruptedCall).filter { $0.timeLeft >= 0 }
                #expect(Set(calls.map(\.number)) == Set(Self.calls.keys), "\(calls)")
                for call in calls {
                    let requested = (Self.calls[call.number] ?? 0) * 1_000_000_000
                    #expect(call.timeLeft <= requested, "call \(call.number)")
                    let deadline = call.timeLeft + Int64(frozen.freezeBegan)
                    let before = deadlines[call.number, default: deadline]
                    // Epoll's time-out counts in milliseconds and is rounded up at each thaw.
                    #expect(abs(deadline - before) < 250_000_000, "call \(call.number), round \(round)")
                    deadlines[call.number] = deadline
                }
                try frozen.thaw()
                // Long enough that a sleep that starts over is seen; the victim sleeps on, whatever this takes.
                let until = ContinuousClock.now + .milliseconds(700)
                try wait(for: "a moment to pass") { ContinuousClock.now > until }
            }
        }
    }
}
