// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import LinuxSystem

/// A process beside this one that keeps the restored process from reading zeros when this one dies.
///
/// It holds every userfaultfd of the restored process and its children. As long as it does, a thread that touches a page that is still
/// owed waits. When this process ends before ``release()``, however it ends, the guardian kills the restored process with its
/// descendants, and goes on holding the userfaultfds until their memory is gone.
///
/// A thread inside of a system call cannot be stopped while it waits for a page (it spins), but it can be killed.
final class Guardian: Sendable {
    private let channel: OwnedDescriptor
    /// The guardian itself.
    let pid: Int32
    /// Whether it was released; orders are given one at a time.
    private let isReleased = Lock(false)

    /// Starts the guardian; to be called before keys are loaded, since the guardian keeps a copy of this process's memory.
    init() throws(SystemCallError) {
        let started = try checked("fork", clinux_guardian_start(), operand: "guardian")
        channel = OwnedDescriptor(adopting: Int32(truncatingIfNeeded: started & 0xffff_ffff))
        pid = Int32(truncatingIfNeeded: started >> 32)
    }

    /// Hangs up when the guardian has died.
    var descriptor: Int32 { channel.rawValue }

    /// Gives the guardian a reference to a userfaultfd; returns when it has it, or at once when it was released.
    func hold(userfaultfd descriptor: Int32) throws(SystemCallError) {
        try tell(CLINUX_GUARDIAN_HOLD, descriptor, pid: 0)
    }

    /// Names a process to kill when this one dies; returns when the guardian knows it.
    ///
    /// - Parameters:
    ///   - pidfd: the process, pidfd_open(2).
    ///   - pid: its pid as seen from here, to find its descendants by.
    func doom(pidfd: Int32, pid: Int32) throws(SystemCallError) {
        try tell(CLINUX_GUARDIAN_KILL, pidfd, pid: pid)
    }

    /// Nothing is owed any more: the guardian closes its references and ends.
    ///
    /// Does nothing the second time.
    func release() throws(SystemCallError) {
        let number = channel.rawValue
        try isReleased.withLock { isReleased throws(SystemCallError) in
            guard !isReleased else { return }
            isReleased = true
            _ = try checked("sendmsg", clinux_guardian_release(number), operand: "guardian")
            _ = try checked("waitpid", clinux_guardian_reap(pid), operand: "guardian")
        }
    }

    private func tell(
        _ message: clinux_guardian_message,
        _ descriptor: Int32,
        pid: Int32
    ) throws(SystemCallError) {
        let number = channel.rawValue
        try isReleased.withLock { isReleased throws(SystemCallError) in
            guard !isReleased else { return }
            _ = try checked("sendmsg", clinux_guardian_tell(number, message, descriptor, pid), operand: "guardian")
        }
    }
}
