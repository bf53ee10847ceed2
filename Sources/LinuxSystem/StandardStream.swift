// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Standard output and standard error, written to at once.
///
/// There is no buffer: a line is on its way when ``write(_:)`` returns, also when the program then dies.
public enum StandardStream: Int32, Sendable {
    /// Descriptor 1, for results.
    case output = 1
    /// Descriptor 2, for everything else.
    case error = 2

    /// Whether a person sees it, see isatty(3).
    public var isTerminal: Bool { isatty(rawValue) == 1 }

    /// Writes the whole text.
    ///
    /// A stream that is closed or full to the brim loses the rest: there is nowhere left to complain to.
    public func write(_ text: String) {
        var remaining = Array(text.utf8)[...]
        while !remaining.isEmpty {
            // SAFETY: the pointer is used within the closure and `count` is the size of the buffer.
            let written = unsafe remaining.withUnsafeBytes { bytes in
                unsafe Glibc.write(rawValue, bytes.baseAddress, bytes.count)
            }
            if written > 0 {
                remaining = remaining.dropFirst(written)
            } else if errno != EINTR {
                return
            }
        }
    }

    /// Lets a write to a closed pipe or socket fail with `EPIPE` instead of ending the program.
    ///
    /// OpenSSL writes to sockets without `MSG_NOSIGNAL`; called once, before the first thread.
    public static func ignoreBrokenPipes() {
        signal(SIGPIPE, SIG_IGN)
    }
}
