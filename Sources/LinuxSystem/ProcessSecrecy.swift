// SPDX-License-Identifier: Apache-2.0
internal import CLinux

/// What a program that holds keys, or the memory of somebody else's process, gives up before it has them.
public enum ProcessSecrecy {
    /// From now on nothing of this program's memory is written to a core file, and only who has CAP_SYS_PTRACE may look at it.
    ///
    /// Children that are forked inherit that; programs that are executed do not. Limits stay as they are: they would be inherited as
    /// well, and a process that is restored must find its own.
    ///
    /// The corresponding call is `prctl(PR_SET_DUMPABLE, 0)`.
    public static func begin() throws(SystemCallError) {
        try checked("prctl", clinux_set_dumpable(0), operand: "PR_SET_DUMPABLE")
    }

    /// No program that the calling thread, or a thread that it starts, may execute gets more privileges than it has.
    ///
    /// The corresponding call is `prctl(PR_SET_NO_NEW_PRIVS)`.
    public static func forbidNewPrivileges() throws(SystemCallError) {
        try checked("prctl", clinux_set_no_new_privileges(), operand: "PR_SET_NO_NEW_PRIVS")
    }
}
