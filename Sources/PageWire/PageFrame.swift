// SPDX-License-Identifier: Apache-2.0
public import Paging

/// A frame about one run of pages: every frame of the fault connection, and `pageRun` and `zeroRun` of the bulk
/// connection.
///
/// It begins with 48 bytes: the ``FrameHeader``, then
///
/// | bytes | |
/// |---|---|
/// | 16..<24 | address of the first page at the source, `UInt64`, page-aligned |
/// | 24..<28 | number of pages, `UInt32`, 1 to ``PageProtocol/maximumPages`` |
/// | 28..<32 | `UInt32`: ``remaining``, or the error code of `failed` |
/// | 32..<40 | lower half of the ``digest``, `UInt64` |
/// | 40..<48 | upper half of the ``digest``, `UInt64` |
///
/// and the contents of the pages follow for `pages` and `pageRun`. Decoding and encoding allocate nothing.
public struct PageFrame: Hashable, Sendable {
    /// Bytes in front of the contents of the pages.
    public static let byteCount = 48
    /// Bytes of that behind the header.
    static let fieldByteCount = byteCount - FrameHeader.byteCount
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
    /// In an answer pages of the request that are still to come; in a request how many of its pages, at its end, no thread waits for; the
    /// code of a `failed` frame; zero elsewhere.
    public var remaining: UInt32
    /// Over these pages as the source has read them, of a kind that ``FrameKind/statesContents``; else of no pages.
    ///
    /// Made when the pages are read and compared before they are installed, so that what becomes of them in between shows.
    public var digest: PageDigest

    /// A frame; a kind without pages, an odd address or a count outside of the bounds is a bug of the caller.
    public init(
        kind: FrameKind,
        request: UInt64 = 0,
        address: VirtualAddress,
        count: UInt32,
        remaining: UInt32 = 0,
        digest: PageDigest = PageDigest()
    ) {
        precondition(kind.isPageFrame, "PageFrame: a kind without pages")
        precondition(digest.count == (kind.statesContents ? UInt64(count) : 0), "PageFrame: a digest of other pages")
        precondition(Self.problem(address: address.rawValue, count: count) == nil, "PageFrame: no run of pages")
        self.kind = kind
        self.request = request
        self.address = address
        self.count = count
        self.remaining = remaining
        self.digest = digest
    }

    /// Decodes the 32 bytes at `offset` that follow `header`.
    public init(header: FrameHeader, decoding bytes: Span<UInt8>, at offset: Int = 0) throws(WireError) {
        guard header.kind.isPageFrame else {
            throw WireError(.unexpectedKind, at: 4, expected: "a frame of pages", found: "\(header.kind)")
        }
        guard offset >= 0, bytes.count - offset >= Self.fieldByteCount else {
            let rest = max(0, bytes.count - offset)
            throw WireError(.truncated, at: 16, expected: "\(Self.fieldByteCount) bytes", found: "\(rest)")
        }
        let address = bytes.uint64(at: offset)
        let count = bytes.uint32(at: offset + 8)
        let remaining = bytes.uint32(at: offset + 12)
        let (low, high) = (bytes.uint64(at: offset + 16), bytes.uint64(at: offset + 24))
        if let problem = Self.problem(address: address, count: count) { throw problem }
        self.kind = header.kind
        self.request = header.request
        self.address = VirtualAddress(address)
        self.count = count
        self.remaining = remaining
        self.digest = PageDigest(count: kind.statesContents ? UInt64(count) : 0, high: high, low: low)
        guard header.payloadLength == self.header.payloadLength else {
            let expected = self.header.payloadLength
            throw WireError(.badLength, at: 0, expected: "\(expected)", found: "\(header.payloadLength)")
        }
        guard kind.statesContents || low | high == 0 else {
            throw WireError(.badField, at: 32, expected: "no digest", found: "\(digest)")
        }
        switch kind {
        case .requestPages:
            guard remaining <= count else {
                throw WireError(.badField, at: 28, expected: "at most \(count)", found: "\(remaining)")
            }
        case .pages, .zeroPages, .absentPages, .guardPages, .sentPages:
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

    /// Decodes the first 48 bytes of a frame that `sender` sent on `connection`.
    public init(
        decoding bytes: Span<UInt8>,
        at offset: Int = 0,
        on connection: ConnectionKind,
        from sender: Side
    ) throws(WireError) {
        let header = try FrameHeader(decoding: bytes, at: offset, on: connection, from: sender)
        try self.init(header: header, decoding: bytes, at: offset + FrameHeader.byteCount)
    }

    /// Bytes of page contents that follow the first 48: a multiple of 4096, or none.
    public var contentByteCount: Int {
        kind == .pages || kind == .pageRun ? Int(count) * PageSize.baseBytes : 0
    }

    /// The first 16 bytes.
    public var header: FrameHeader {
        FrameHeader(kind: kind, payloadLength: Self.fieldByteCount + contentByteCount, request: request)
    }

    /// The run of pages.
    public var run: PageRun {
        PageRun(address: address, count: UInt64(count))
    }

    /// Writes the first 48 bytes at `offset`; a span that is too short is a bug of the caller.
    public func encode(into bytes: inout MutableSpan<UInt8>, at offset: Int = 0) {
        header.encode(into: &bytes, at: offset)
        bytes.store(address.rawValue, at: offset + 16)
        bytes.store(count, at: offset + 24)
        bytes.store(remaining, at: offset + 28)
        bytes.store(digest.value.low, at: offset + 32)
        bytes.store(digest.value.high, at: offset + 40)
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
