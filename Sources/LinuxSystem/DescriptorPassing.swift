// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// Descriptors that came in a message; those not taken are closed.
public struct ReceivedDescriptors: ~Copyable, Sendable {
    /// The bytes of the message; empty at the end of the stream.
    public let bytes: [UInt8]
    private let numbers: [Int32]
    private var taken = 0

    init(bytes: [UInt8], numbers: [Int32]) {
        self.bytes = bytes
        self.numbers = numbers
    }

    deinit {
        for number in numbers[taken...] { close(number) }
    }

    /// How many have not been taken.
    public var count: Int { numbers.count - taken }

    /// The next descriptor, in the order of the sender.
    public mutating func next() -> OwnedDescriptor? {
        guard taken < numbers.count else { return nil }
        defer { taken += 1 }
        return OwnedDescriptor(adopting: numbers[taken])
    }
}

/// Open files sent to another process over a UNIX socket.
public enum DescriptorPassing {
    /// Most descriptors in a message.
    public static let maximum = Int(CLINUX_DESCRIPTORS_MAX)

    /// Sends duplicates of descriptors with at least one byte.
    ///
    /// - Throws: ``SystemCallError``; `EPIPE` when the other side is gone (no signal is raised).
    ///
    /// The corresponding call is `sendmsg` with `SCM_RIGHTS`.
    public static func send(
        _ descriptors: [Int32],
        with bytes: [UInt8] = [0],
        over socket: Int32
    ) throws(SystemCallError) {
        precondition(
            !bytes.isEmpty && descriptors.count <= maximum,
            "DescriptorPassing: no byte, or too many descriptors"
        )
        var sent: Int
        repeat {
            // SAFETY: both arrays live during the call, with their own counts.
            sent = unsafe bytes.withUnsafeBytes { message in
                unsafe descriptors.withUnsafeBufferPointer { numbers in
                    guard let start = message.baseAddress else { return -Int(EINVAL) }
                    return unsafe clinux_send_descriptors(
                        socket,
                        start,
                        message.count,
                        numbers.baseAddress,
                        numbers.count
                    )
                }
            }
        } while sent == -Int(EINTR)
        try checked("sendmsg", sent, operand: "\(descriptors.count) descriptors over \(socket)")
        guard sent == bytes.count else {
            throw SystemCallError(
                "sendmsg",
                Errno(rawValue: EMSGSIZE),
                operand: "\(sent) of \(bytes.count) bytes over \(socket)"
            )
        }
    }

    /// Waits for a message with descriptors.
    ///
    /// - Parameters:
    ///   - maximum: most descriptors to take; a message with more is an error and all of them are closed.
    ///   - limit: most bytes to read at once.
    /// - Throws: ``SystemCallError`` with `ETIMEDOUT` at the deadline.
    ///
    /// The corresponding call is `recvmsg` with `SCM_RIGHTS`.
    public static func receive(
        maximum: Int = 1,
        limit: Int = 4096,
        over socket: Int32,
        until deadline: Deadline = .never
    ) throws(SystemCallError) -> ReceivedDescriptors {
        precondition(
            limit > 0 && (0...Self.maximum).contains(maximum),
            "DescriptorPassing: no room, or too many descriptors"
        )
        while true {
            guard try DescriptorIO.wait(for: .readable, on: socket, until: deadline) else {
                throw SystemCallError("recvmsg", .timedOut, operand: "descriptor \(socket)")
            }
            var numbers = [Int32](repeating: -1, count: maximum)
            var count = maximum
            var received = 0
            let bytes = unsafe [UInt8](unsafeUninitializedCapacity: limit) { buffer, initialised in
                received = unsafe numbers.withUnsafeMutableBufferPointer { room in
                    guard let start = buffer.baseAddress else { return -Int(EINVAL) }
                    // SAFETY: `limit` bytes and `count` numbers of memory that lives during the call.
                    return unsafe clinux_receive_descriptors(socket, start, limit, room.baseAddress, &count)
                }
                initialised = max(0, received)
            }
            if received == -Int(EINTR) || received == -Int(EAGAIN) { continue }
            try checked("recvmsg", received, operand: "descriptor \(socket)")
            return ReceivedDescriptors(bytes: bytes, numbers: Array(numbers[..<count]))
        }
    }
}
