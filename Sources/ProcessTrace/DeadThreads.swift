// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// What is left of the threads of a traced process that was killed.
///
/// The end of the leader of a group is told when no other thread is left, and a traced thread is left until its tracer has waited
/// for it (delay_group_leader() of kernel/exit.c). So who waits for the leader alone waits for ever.
public enum DeadThreads {
    /// Takes the ends of all threads but the leader, as far as they have ended; from any thread of the tracer's program.
    ///
    /// - Parameter pid: a process that was killed: of one that lives this would take stops that its tracer waits for.
    /// - Returns: whether threads are left.
    @discardableResult
    public static func take(of pid: Int32) -> Bool {
        let others = ((try? ProcFile.threads(of: pid)) ?? []).filter { $0 != pid }
        for tid in others {
            var status: Int32 = 0
            // SAFETY: the kernel writes one word.
            _ = unsafe clinux_wait(tid, &status, WNOHANG)
        }
        return !others.isEmpty
    }
}
