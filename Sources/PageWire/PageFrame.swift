// SPDX-License-Identifier: Apache-2.0
public import Paging

/// A frame about one run of pages: every frame of the fault connection, and `pageRun` and `zeroRun` of the bulk
/// connection.
///
/// It begins with 32 bytes: the ``FrameHeader``, then
///
/// | bytes | |
/// |---|---|
/// | 16..<24 | address of the first page at the source, `UInt64`, page-aligned |
/// | 24..<28 | number of pages, `UInt32`, 1 to ``PageProtocol/maximumPages`` |
/// | 28..<32 | `UInt32`: pages of the request still to come (``remaining``), or the error code of `failed` |
///
/// and the contents of the pages follow for `pages` and `pageRun`. Decoding and encoding allocate nothing.
public struct PageFrame: Hashable, Sendable {
    /// Bytes in front of the contents of the pages.
    public static let byteCount = 32
    /// The largest such frame, contents and all.
    public static let maximumByteCount = byteCount + Int(PageProtocol.maximumPages) * PageSize.baseBytes

    /// The kind; one with ``FrameKind/isPageFrame``.
    public var kind: FrameKind
    /// Which request the frame makes or answers; zero on the bulk connection.
    public var request: UInt64
    /// The first page, as an address of the process at the source.
    public var address: VirtualAddress
    /// Number of pages.
    public var count: UInt32
    /// Pages of the request that are still to come; the code of a `failed` frame; zero elsewhere.
    public var remaining: UInt32

    /// A frame; a kind without pages, an odd address or a count outside of the bounds is a bug of the caller.
    public init(kind: FrameKind, request: UInt64 = 0, address: VirtualAddress, count: UInt32, remaining: UInt32 = 0) {
        precondition(kind.isPageFrame, "PageFrame: a kind without pages")
        precondition(Self.problem(address: address.rawValue, count: count) == nil, "PageFrame: no run of pages")
        self.kind = kind
        self.request = request
        self.address = address
        self.count = count
        self.remaining = remaining
    }

    /// Decodes the 16 bytes at `offset` that follow `header`.
    public init(header: FrameHeader, decoding bytes: Span<UInt8>, at offset: Int = 0) throws(WireError) {
        guard header.kind.isPageFrame else {
            throw WireError(.unexpectedKind, at: 4, expected: "a frame of pages", found: "\(header.kind)")
        }
        guard offset >= 0, bytes.count - offset >= 16 else {
            throw WireError(.truncated, at: 16, expected: "16 bytes", found: "\(max(0, bytes.count - offset))")
        }
        let address = bytes.uint64(at: offset)
        let count = bytes.uint32(at: offset + 8)
        let remaining = bytes.uint32(at: offset + 12)
        if let problem = Self.problem(address: address, count: count) { throw problem }
        self.kind = header.kind
        self.request = header.request
        self.address = VirtualAddress(address)
        self.count = count
        self.remaining = remaining
        guard header.payloadLength == 16 + contentByteCount else {
            throw WireError(.badLength, at: 0, expected: "\(16 + contentByteCount)", found: "\(header.payloadLength)")
        }
        switch kind {
        case .pages, .zeroPages, .absentPages, .guardPages:
            guard remaining < PageProtocol.maximumPages else {
                throw WireError(
                    .badField,
                    at: 28,
                    expected: "less than \(PageProtocol.maximumPages)",
                    found: "\(remaining)"
                )
            }
        case .failed: break
        default:
            guard remaining == 0 else { throw WireError(.badField, at: 28, expected: "zero", found: "\(remaining)") }
        }
    }

    /// Decodes the first 32 bytes of a frame that `sender` sent on `connection`.
    public init(
        decoding bytes: Span<UInt8>,
        at offset: Int = 0,
        on connection: ConnectionKind,
        from sender: Side
    ) throws(WireError) {
        let header = try FrameHeader(decoding: bytes, at: offset, on: connection, from: sender)
        try self.init(header: header, decoding: bytes, at: offset + FrameHeader.byteCount)
    }

    /// Bytes of page contents that follow the first 32: a multiple of 4096, or none.
    public var contentByteCount: Int {
        kind == .pages || kind == .pageRun ? Int(count) * PageSize.baseBytes : 0
    }

    /// The first 16 bytes.
    public var header: FrameHeader {
        FrameHeader(kind: kind, payloadLength: 16 + contentByteCount, request: request)
    }

    /// The run of pages.
    public var run: PageRun {
        PageRun(address: address, count: UInt64(count))
    }

    /// Writes the first 32 bytes at `offset`; a span that is too short is a bug of the caller.
    public func encode(into bytes: inout MutableSpan<UInt8>, at offset: Int = 0) {
        header.encode(into: &bytes, at: offset)
        bytes.store(address.rawValue, at: offset + 16)
        bytes.store(count, at: offset + 24)
        bytes.store(remaining, at: offset + 28)
    }

    private static func problem(address: UInt64, count: UInt32) -> WireError? {
        guard address % PageSize.base == 0 else {
            return WireError(.badField, at: 16, expected: "a page-aligned address", found: "\(VirtualAddress(address))")
        }
        guard (1...PageProtocol.maximumPages).contains(count) else {
            return WireError(.badField, at: 24, expected: "1 to \(PageProtocol.maximumPages) pages", found: "\(count)")
        }
        guard !address.addingReportingOverflow(UInt64(count) * PageSize.base).overflow else {
            return WireError(
                .badField,
                at: 16,
                expected: "a run inside of the address space",
                found: "\(VirtualAddress(address))"
            )
        }
        return nil
    }
}
