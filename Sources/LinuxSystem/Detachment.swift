// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// Going into the background: the program starts itself again, and waits until its second self says how the start went.
public enum Detachment {
    /// The environment variable through which the second self learns where to report.
    private static let variable = "THAW_REPORT_DESCRIPTOR"

    /// How the start of the second self went.
    public enum Outcome: Hashable, Sendable {
        /// It reported this exit code; 0 means that it runs on.
        case reported(UInt8)
        /// It ended without a report: its wait status, see waitpid(2).
        case ended(status: Int32)
    }

    /// The descriptor to report on, when this is the second self.
    ///
    /// Found once: the variable is removed, so that no child of ours takes itself for it.
    public static func takeReport() -> Report? {
        guard let descriptor = OwnedDescriptor.inherited(by: variable) else { return nil }
        return Report(descriptor: descriptor)
    }

    /// Starts the same command again in a session of its own and waits for its report.
    public static func start() throws(SystemCallError) -> Outcome {
        // SAFETY: a NUL-terminated text that lives through the call.
        let answer = try checked("posix_spawn", unsafe clinux_daemon_start(variable), operand: "/proc/self/exe")
        let pid = pid_t(answer & 0xffff_ffff)
        let report = OwnedDescriptor(adopting: Int32(answer >> 32))
        var code: UInt8 = 0
        let count = try systemCall("read", operand: "the report of process \(pid)") {
            // SAFETY: one byte that lives through the call.
            unsafe read(report.rawValue, &code, 1)
        }
        if count == 1 && code == 0 { return .reported(0) }
        // It is about to end, or has ended: nothing else closes the pipe.
        var status: Int32 = 0
        try systemCall("waitpid", operand: "\(pid)") {
            // SAFETY: the status lives through the call.
            unsafe waitpid(pid, &status, 0)
        }
        return count == 1 ? .reported(code) : .ended(status: status)
    }

    /// What the second self says to the first, once.
    public final class Report: Sendable {
        private let pending: Lock<Int32?>

        fileprivate init(descriptor: consuming OwnedDescriptor) {
            pending = Lock(descriptor.release())
        }

        /// Lets the first self end with `code`; a second report says nothing.
        ///
        /// With code 0 this program gives up its terminal: streams that lead to a terminal or a pipe now lead to /dev/null,
        /// files stay.
        public func send(code: UInt8) {
            let number = pending.withLock { number in
                defer { number = nil }
                return number
            }
            guard let number else { return }
            let descriptor = OwnedDescriptor(adopting: number)
            if code == 0 {
                // When it fails the streams stay open, which harms nobody but the reader of a pipe that waits for its end.
                _ = clinux_daemon_close_streams()
            }
            var code = code
            // SAFETY: one byte that lives through the call. A first self that has been killed needs no report.
            _ = unsafe write(descriptor.rawValue, &code, 1)
        }
    }
}

extension OwnedDescriptor {
    /// The descriptor whose number an environment variable says; nil without one.
    ///
    /// Found once: the variable is removed, so that no child of ours takes itself for the one who is meant. The descriptor is
    /// close-on-exec from then on.
    public static func inherited(by variable: String) -> OwnedDescriptor? {
        // SAFETY: called before the first thread, so nobody changes the environment meanwhile; the text is copied.
        guard let text = unsafe getenv(variable), let number = unsafe Int32(String(cString: text)) else { return nil }
        // SAFETY: as above.
        unsafe unsetenv(variable)
        // Started by /proc/self/exe this program would be called "exe" by ps(1).
        _ = unsafe clinux_set_thread_name("thaw")
        return try? adoptInherited(number)
    }

    /// Takes over a descriptor that this program has inherited, and makes it close-on-exec.
    ///
    /// - Throws: ``SystemCallError`` with EBADF when there is none of that number.
    public static func adoptInherited(_ number: Int32) throws(SystemCallError) -> OwnedDescriptor {
        try systemCall("fcntl", operand: "descriptor \(number)") { fcntl(number, F_SETFD, FD_CLOEXEC) }
        return OwnedDescriptor(adopting: number)
    }
}
