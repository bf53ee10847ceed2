// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Plain reads and writes with a deadline, for pipes, status descriptors and small files.
public enum DescriptorIO {
    /// A direction of a descriptor.
    public enum Direction: Sendable {
        /// There is something to read, or the end.
        case readable
        /// There is room to write, or the reader is gone.
        case writable
    }

    /// How a wait ended.
    public enum WaitOutcome: Hashable, Sendable {
        /// The descriptor is ready, or in an error that the next call tells.
        case ready
        /// The event was signalled.
        case interrupted
        /// The deadline has passed.
        case timedOut
    }

    /// Waits for one descriptor.
    ///
    /// - Returns: whether it was ready before the deadline. Errors and hang-ups count as ready: the next call tells them.
    ///
    /// The corresponding call is `poll`.
    public static func wait(
        for direction: Direction,
        on descriptor: Int32,
        until deadline: Deadline
    ) throws(SystemCallError) -> Bool {
        try wait(for: direction, on: descriptor, interruptedBy: nil, until: deadline) == .ready
    }

    /// Waits for one descriptor or for an event, by which another thread ends the wait; the event's count stays.
    ///
    /// The corresponding call is `poll`.
    public static func wait(
        for direction: Direction,
        on descriptor: Int32,
        interruptedBy event: EventDescriptor?,
        until deadline: Deadline
    ) throws(SystemCallError) -> WaitOutcome {
        let wanted = Int16(direction == .readable ? POLLIN : POLLOUT)
        // poll(2) passes over entries with a negative descriptor.
        var entries: InlineArray<2, pollfd> = [
            pollfd(fd: descriptor, events: wanted, revents: 0),
            pollfd(fd: event?.descriptor ?? -1, events: Int16(POLLIN), revents: 0),
        ]
        while true {
            // SAFETY: two entries that live during the call.
            let count = unsafe withUnsafeMutableBytes(of: &entries) { raw in
                unsafe poll(raw.baseAddress?.assumingMemoryBound(to: pollfd.self), 2, deadline.milliseconds)
            }
            if count > 0 {
                if entries[1].revents != 0 { return .interrupted }
                guard entries[0].revents & Int16(POLLNVAL) == 0 else {
                    throw SystemCallError("poll", .badDescriptor, operand: "descriptor \(descriptor)")
                }
                return .ready
            }
            if count < 0 && errno != EINTR {
                throw SystemCallError("poll", Errno(rawValue: errno), operand: "descriptor \(descriptor)")
            }
            if deadline.hasPassed { return .timedOut }
        }
    }

    /// Reads what is there, at most `limit` bytes; waits for the first byte.
    ///
    /// - Returns: the bytes, none at the end of the file.
    /// - Throws: ``SystemCallError`` with `ETIMEDOUT` at the deadline.
    ///
    /// The corresponding call is `read`.
    public static func read(
        _ descriptor: Int32,
        limit: Int,
        until deadline: Deadline = .never
    ) throws(SystemCallError) -> [UInt8] {
        while true {
            guard try wait(for: .readable, on: descriptor, until: deadline) else {
                throw SystemCallError("read", .timedOut, operand: "descriptor \(descriptor)")
            }
            var failure: Errno?
            let bytes = unsafe [UInt8](unsafeUninitializedCapacity: limit) { buffer, initialised in
                // SAFETY: the kernel writes at most `limit` bytes into the array's own memory.
                let count = unsafe Glibc.read(descriptor, buffer.baseAddress, limit)
                if count < 0 { failure = Errno(rawValue: errno) }
                initialised = max(0, count)
            }
            switch failure {
            case nil: return bytes
            case .interrupted?, .again?: continue
            case let other?: throw SystemCallError("read", other, operand: "descriptor \(descriptor)")
            }
        }
    }

    /// Reads until the end of the file.
    ///
    /// - Throws: ``SystemCallError`` with `EFBIG` when there are more than `limit` bytes, `ETIMEDOUT` at the deadline.
    public static func readToEnd(
        _ descriptor: Int32,
        limit: Int,
        until deadline: Deadline = .never
    ) throws(SystemCallError) -> [UInt8] {
        var all: [UInt8] = []
        while true {
            let piece = try read(descriptor, limit: min(65536, limit - all.count + 1), until: deadline)
            if piece.isEmpty { return all }
            all += piece
            guard all.count <= limit else {
                throw SystemCallError(
                    "read",
                    Errno(rawValue: EFBIG),
                    operand: "more than \(limit) bytes on descriptor \(descriptor)"
                )
            }
        }
    }

    /// Writes all bytes.
    ///
    /// A socket or pipe without reader raises SIGPIPE unless it is ignored.
    ///
    /// - Throws: ``SystemCallError`` with `ETIMEDOUT` at the deadline; some bytes may have been written.
    ///
    /// The corresponding call is `write`.
    public static func write(
        _ bytes: [UInt8],
        to descriptor: Int32,
        until deadline: Deadline = .never
    ) throws(SystemCallError) {
        var done = 0
        while done < bytes.count {
            let start = done
            // SAFETY: the array's own memory, from `start` to its end.
            let count = unsafe bytes.withUnsafeBytes { buffer in
                unsafe Glibc.write(descriptor, buffer.baseAddress.map { unsafe $0 + start }, buffer.count - start)
            }
            if count >= 0 {
                done += count
                continue
            }
            let number = Errno(rawValue: errno)
            if number == .interrupted { continue }
            guard number == .again else { throw SystemCallError("write", number, operand: "descriptor \(descriptor)") }
            guard try wait(for: .writable, on: descriptor, until: deadline) else {
                throw SystemCallError("write", .timedOut, operand: "descriptor \(descriptor)")
            }
        }
    }
}
