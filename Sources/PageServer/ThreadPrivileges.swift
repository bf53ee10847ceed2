// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem

/// What each kind of thread of a page server may do, once everything is set up; the smallest sets with which every test passes.
///
/// Threads share their memory, so this is no wall against code that an attacker has brought in; it bounds what a thread can be talked
/// into. Whoever has not shown a certificate only ever reaches threads that may do nothing.
enum ThreadPrivileges {
    /// The one that traces the process: ptrace(2) and signals, files of a process of any user, and those that it maps
    /// (CAP_CHECKPOINT_RESTORE).
    ///
    /// Without any one of them a process of another user cannot be moved.
    static let tracer: Capabilities = [.sysPtrace, .kill, .dacOverride, .checkpointRestore]
    /// The one that starts those that serve pages: what they need and may raise themselves to.
    static let starter: Capabilities = [.sysPtrace, .dacOverride, .sysNice]
    /// Those that look at what a running process has written: process_vm_readv(2), files of `/proc/PID`.
    static let tracker: Capabilities = [.sysPtrace, .dacOverride]
    /// Those that read pages of a frozen process: process_vm_readv(2) asks each time.
    static let reader: Capabilities = [.sysPtrace]
    /// Those that let connections in and find out who is there.
    static let none: Capabilities = []
}
