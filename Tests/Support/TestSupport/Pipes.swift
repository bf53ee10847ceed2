// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// The reading end of a pipe, by lines and with a deadline.
public final class LineReader {
    private let descriptor: Int32
    private var buffer: [UInt8] = []
    private var ended = false

    init(adopting descriptor: Int32) {
        self.descriptor = descriptor
    }

    deinit {
        close(descriptor)
    }

    /// The next line without its end, or nil at end of file.
    public func next(within limit: Duration = patience) throws -> String? {
        let deadline = ContinuousClock.now + limit
        while true {
            if let end = buffer.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: buffer[..<end], as: UTF8.self)
                buffer.removeFirst(end + 1)
                return line
            }
            if ended {
                guard !buffer.isEmpty else { return nil }
                defer { buffer = [] }
                return String(decoding: buffer, as: UTF8.self)
            }
            guard ContinuousClock.now < deadline else { throw TestFailure("no line within \(limit)") }
            try fill()
        }
    }

    /// Whether ``next(within:)`` would return at once.
    public func isReady() throws -> Bool {
        if !ended, !buffer.contains(UInt8(ascii: "\n")) { try fill(wait: 0) }
        return ended || buffer.contains(UInt8(ascii: "\n"))
    }

    /// Every line up to end of file.
    public func rest(within limit: Duration = patience) throws -> [String] {
        var lines: [String] = []
        while let line = try next(within: limit) { lines.append(line) }
        return lines
    }

    private func fill(wait milliseconds: Int32 = 50) throws {
        var watch = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        // SAFETY: one element, for the time of the call.
        guard unsafe poll(&watch, 1, milliseconds) > 0 else { return }
        var chunk = [UInt8](repeating: 0, count: 4096)
        // SAFETY: the buffer is as long as it says and outlives the call.
        let count = unsafe chunk.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
        if count < 0 && (errno == EINTR || errno == EAGAIN) { return }
        guard count >= 0 else { throw TestFailure("read: \(errorText())") }
        if count == 0 { ended = true }
        buffer += chunk[..<count]
    }
}

/// The writing end of a pipe.
public final class PipeWriter {
    private var descriptor: Int32

    init(adopting descriptor: Int32) {
        self.descriptor = descriptor
        // A process that has ended early fails its test, not the whole run. Started programs get the default action.
        signal(SIGPIPE, SIG_IGN)
    }

    deinit {
        finish()
    }

    /// Writes all of `text`.
    public func write(_ text: String) throws {
        let bytes = Array(text.utf8)
        var done = 0
        while done < bytes.count {
            // SAFETY: the bytes from `done` on are inside of the array.
            let count = unsafe bytes.withUnsafeBytes {
                unsafe Glibc.write(descriptor, $0.baseAddress! + done, $0.count - done)
            }
            guard count > 0 else { throw TestFailure("write: \(errorText())") }
            done += count
        }
    }

    /// Closes the end, so that the reader sees end of file.
    public func finish() {
        guard descriptor >= 0 else { return }
        close(descriptor)
        descriptor = -1
    }
}
