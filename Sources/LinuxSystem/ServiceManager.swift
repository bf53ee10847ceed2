// SPDX-License-Identifier: Apache-2.0
internal import CLinux

/// Who has started this program as a service and waits until it is ready, sd_notify(3).
public enum ServiceManager {
    /// Tells the service manager, if there is one (`NOTIFY_SOCKET`), that this program does its service from now on.
    ///
    /// - Throws: ``SystemCallError`` when it cannot be told; it takes the program for one that does not start, and ends it after a while.
    ///
    /// The corresponding call is `sendto`.
    public static func tellReady() throws(SystemCallError) {
        try tell("READY=1")
    }

    /// Tells the service manager, if there is one, which process the service is from now on: signals go to that one, and its end is theirs.
    ///
    /// The corresponding call is `sendto`.
    public static func tellMainProcess(_ pid: Int32) throws(SystemCallError) {
        try tell("MAINPID=\(pid)")
    }

    private static func tell(_ text: String) throws(SystemCallError) {
        guard let path = EnvironmentVariable.text("NOTIFY_SOCKET"), !path.isEmpty else { return }
        let message = Array(text.utf8)
        // SAFETY: a NUL-terminated text and an array that live during the call.
        let result = unsafe message.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return Int32(0) }
            return unsafe path.withCString { unsafe clinux_send_datagram($0, start, bytes.count) }
        }
        try checked("sendto", result, operand: "the service manager at \(path)")
    }
}
