// SPDX-License-Identifier: Apache-2.0
import Checkpoint
import ProcessImage
import TestSupport
import Testing

/// Timers go on while a process is described.
@Suite(
    .serialized,
    .timeLimit(.minutes(5 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: ptrace of other processes")
)
struct TimerTests {
    /// A timer that has gone off is a signal or is still to go off, and never both.
    @Test func aTimerWithoutPeriodIsCarriedOnce() throws {
        var seen = (armed: 0, signalled: 0)
        // Microseconds; how long a freeze takes, and so what it meets, depends on what else the machine does.
        for longest in [1000, 8000, 200_000 * slowness * slowness] { try freezeOneShots(of: longest, &seen) }
        #expect(seen.armed > 5 && seen.signalled > 5, "\(seen)")
    }

    private func freezeOneShots(of longest: Int, _ seen: inout (armed: Int, signalled: Int)) throws {
        try withProcess(BuiltProduct.victim, ["one-shots", "\(longest)"], options: .init(input: .pipe)) { victim in
            try victim.waitForLine("ready")
            for _ in 0..<60 {
                let frozen = try FrozenProcess.freeze(try Examination.examine(pid: victim.pid), timeout: patience)
                let isArmed = (frozen.description.timers.posix.first?.timer.value ?? 0) > 0
                // struct siginfo: si_code at byte 8, SI_TIMER is -2.
                let isSignalled = frozen.description.signals.pending.contains { $0.bytes[8] == 0xfe }
                #expect(!isArmed || !isSignalled)
                seen.armed += isArmed ? 1 : 0
                seen.signalled += isSignalled ? 1 : 0
                try frozen.thaw()
            }
        }
    }
}
