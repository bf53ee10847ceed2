// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem

/// A process beside this one that keeps the restored process from reading zeros when this one dies.
///
/// It holds every userfaultfd of the restored process and its children. As long as it does, a thread that touches a page that is still
/// owed waits. When this process ends before ``release()``, however it ends, the guardian kills the restored process with its
/// descendants, and goes on holding the userfaultfds until their memory is gone.
///
/// With a keeper (``Keeper``) the channel stays open when this process ends, and the guardian acts when that one has ended as well.
///
/// A thread inside of a system call cannot be stopped while it waits for a page (it spins), but it can be killed.
final class Guardian: Sendable {
    /// The process, and the channel to it.
    private final class Link: Sendable {
        let channel: OwnedDescriptor
        let pid: Int32
        /// Whether it was started by this program, which takes its wait status then.
        let isChild: Bool

        init(channel: consuming OwnedDescriptor, pid: Int32, isChild: Bool) {
            self.channel = channel
            self.pid = pid
            self.isChild = isChild
        }

        static func start() throws(SystemCallError) -> Link {
            let started = try checked("fork", clinux_guardian_start(), operand: "guardian")
            return Link(
                channel: OwnedDescriptor(adopting: Int32(truncatingIfNeeded: started & 0xffff_ffff)),
                pid: Int32(truncatingIfNeeded: started >> 32),
                isChild: true
            )
        }

        func tell(_ message: clinux_guardian_message, _ descriptor: Int32, pid: Int32) throws(SystemCallError) {
            let result = clinux_guardian_tell(channel.rawValue, message, descriptor, pid)
            // One that has died is noticed elsewhere, and the one in its place is told everything again.
            if result != -EPIPE { try checked("sendmsg", result, operand: "guardian") }
        }
    }

    private struct State {
        var link: Link
        /// Processes to kill.
        var doomed: [(pidfd: Int32, pid: Int32)] = []
        var isReleased = false
    }

    /// Orders are given one at a time.
    private let state: Lock<State>

    /// Starts the guardian; to be called before keys are loaded, since the guardian keeps a copy of this process's memory.
    init() throws(SystemCallError) {
        state = Lock(State(link: try Link.start()))
    }

    /// Takes over the guardian of a restorer that has died, which holds and knows what it was told.
    init(adopting channel: consuming OwnedDescriptor, pid: Int32) {
        _ = clinux_guardian_greet(channel.rawValue)
        state = Lock(State(link: Link(channel: channel, pid: pid, isChild: false)))
    }

    /// The guardian itself.
    var pid: Int32 { state.withLock { $0.link.pid } }

    /// Whether it is needed no more.
    var isReleased: Bool { state.withLock { $0.isReleased } }

    /// Hangs up when the guardian has died.
    var descriptor: Int32 { state.withLock { $0.link.channel.rawValue } }

    /// Gives the guardian a reference to a userfaultfd; returns when it has it, or at once when it was released or has died.
    func hold(userfaultfd descriptor: Int32) throws(SystemCallError) {
        try state.withLock { state throws(SystemCallError) in
            guard !state.isReleased else { return }
            try state.link.tell(CLINUX_GUARDIAN_HOLD, descriptor, pid: 0)
        }
    }

    /// Names a process to kill when this one dies; returns when the guardian knows it.
    ///
    /// - Parameters:
    ///   - pidfd: the process, pidfd_open(2); open as long as the guardian is needed.
    ///   - pid: its pid as seen from here, to find its descendants by.
    func doom(pidfd: Int32, pid: Int32) throws(SystemCallError) {
        try state.withLock { state throws(SystemCallError) in
            guard !state.isReleased else { return }
            state.doomed.append((pidfd, pid))
            try state.link.tell(CLINUX_GUARDIAN_KILL, pidfd, pid: pid)
        }
    }

    /// Starts another one in place of one that has died.
    ///
    /// - Parameters:
    ///   - userfaultfds: those to hold, asked for when the new one is there; nothing that is given by
    ///     ``hold(userfaultfd:)`` meanwhile is missed.
    ///   - noted: is told the pid and the channel of the new one before it knows what to do and before the last channel is closed.
    func restart(
        holding userfaultfds: () -> [Int32],
        noted: (_ pid: Int32, _ channel: Int32) -> Void
    ) throws(SystemCallError) {
        try state.withLock { state throws(SystemCallError) in
            guard !state.isReleased else { return }
            let fresh = try Link.start()
            noted(fresh.pid, fresh.channel.rawValue)
            if state.link.isChild { _ = clinux_guardian_reap(state.link.pid) }
            state.link = fresh
            for descriptor in userfaultfds() { try fresh.tell(CLINUX_GUARDIAN_HOLD, descriptor, pid: 0) }
            for (pidfd, pid) in state.doomed { try fresh.tell(CLINUX_GUARDIAN_KILL, pidfd, pid: pid) }
        }
    }

    /// Nothing is owed any more: the guardian closes its references and ends.
    ///
    /// Does nothing the second time.
    func release() throws(SystemCallError) {
        try state.withLock { state throws(SystemCallError) in
            guard !state.isReleased else { return }
            state.isReleased = true
            let link = state.link
            _ = try checked("sendmsg", clinux_guardian_release(link.channel.rawValue), operand: "guardian")
            if link.isChild { _ = try checked("waitpid", clinux_guardian_reap(link.pid), operand: "guardian") }
        }
    }
}
