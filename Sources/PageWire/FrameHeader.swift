// SPDX-License-Identifier: Apache-2.0

/// The first 16 bytes of every frame.
///
/// | bytes | |
/// |---|---|
/// | 0..<4 | length of the payload, `UInt32` |
/// | 4 | ``FrameKind`` |
/// | 5..<8 | zero |
/// | 8..<16 | request id, `UInt64`; zero where there is none |
///
/// Decoding and encoding allocate nothing.
public struct FrameHeader: Hashable, Sendable {
    /// Bytes of a header.
    public static let byteCount = 16

    /// The kind of the frame.
    public var kind: FrameKind
    /// Bytes behind the header; within the bounds of the kind.
    public var payloadLength: Int
    /// Which request the frame makes or answers; zero outside of the fault connection.
    public var request: UInt64

    /// A header for a payload of `payloadLength` bytes; a length outside of the bounds of `kind` is a bug of the
    /// caller.
    public init(kind: FrameKind, payloadLength: Int, request: UInt64 = 0) {
        precondition(
            kind.payloadBounds.contains(payloadLength),
            "FrameHeader: payload outside of the bounds of its kind"
        )
        self.kind = kind
        self.payloadLength = payloadLength
        self.request = request
    }

    /// Decodes the header at `offset` of what `sender` sent on `connection`.
    ///
    /// What comes back is safe to act on: the kind belongs there and the length is within its bounds, so a buffer of
    /// ``payloadLength`` may be allocated.
    public init(
        decoding bytes: Span<UInt8>,
        at offset: Int = 0,
        on connection: ConnectionKind,
        from sender: Side
    ) throws(WireError) {
        guard offset >= 0, bytes.count - offset >= Self.byteCount else {
            throw WireError(.truncated, at: 0, expected: "16 bytes", found: "\(max(0, bytes.count - offset))")
        }
        let number = bytes[offset + 4]
        guard let kind = FrameKind(rawValue: number) else {
            throw WireError(.unknownKind, at: 4, expected: "a kind of frame", found: "\(number)")
        }
        guard kind.isLegal(on: connection, from: sender) else {
            throw WireError(
                .unexpectedKind,
                at: 4,
                expected: "a kind that the \(sender) sends on a \(connection) connection",
                found: "\(kind)"
            )
        }
        guard bytes[offset + 5] == 0, bytes.uint16(at: offset + 6) == 0 else {
            throw WireError(.badField, at: 5, expected: "zeros", found: "something else")
        }
        let length = Int(bytes.uint32(at: offset))
        guard kind.payloadBounds.contains(length) else {
            throw WireError(.badLength, at: 0, expected: "\(kind.payloadBounds) for \(kind)", found: "\(length)")
        }
        let request = bytes.uint64(at: offset + 8)
        guard request == 0 || kind.carriesRequest else {
            throw WireError(.badField, at: 8, expected: "no request id", found: "\(request)")
        }
        self.kind = kind
        self.payloadLength = length
        self.request = request
    }

    /// Writes 16 bytes at `offset`; a span that is too short is a bug of the caller.
    public func encode(into bytes: inout MutableSpan<UInt8>, at offset: Int = 0) {
        bytes.store(UInt32(truncatingIfNeeded: payloadLength), at: offset)
        bytes.store(kind.rawValue, at: offset + 4)
        bytes.store(UInt8(0), at: offset + 5)
        bytes.store(UInt16(0), at: offset + 6)
        bytes.store(request, at: offset + 8)
    }

    /// Appends 16 bytes.
    func append(to bytes: inout [UInt8]) {
        bytes.append(littleEndian: UInt32(truncatingIfNeeded: payloadLength))
        bytes.append(kind.rawValue)
        bytes.append(contentsOf: [0, 0, 0])
        bytes.append(littleEndian: request)
    }
}
