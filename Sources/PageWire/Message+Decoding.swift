// SPDX-License-Identifier: Apache-2.0
internal import Paging

extension Message {
    /// Decodes the payload of a frame; whatever it holds, the answer is a message or an error.
    ///
    /// - Parameters:
    ///   - header: The decoded header of the frame.
    ///   - payload: Exactly ``FrameHeader/payloadLength`` bytes.
    /// - Throws: ``WireError`` with the first thing that is wrong.
    public init(header: FrameHeader, payload: Span<UInt8>) throws(WireError) {
        guard payload.count == header.payloadLength else {
            throw WireError(.truncated, at: 16, expected: "\(header.payloadLength) bytes", found: "\(payload.count)")
        }
        switch header.kind {
        case .hello: self = try Self.hello(payload)
        case .welcome: self = try Self.welcome(payload)
        case .refused: self = .refused(code: payload.uint16(at: 0), text: try Self.text(payload))
        case .abort: self = .abort(code: payload.uint16(at: 0), text: try Self.text(payload))
        case .ping: self = .ping
        case .pong: self = .pong
        case .describe: self = try Self.describe(payload)
        case .description: self = try Self.description(payload)
        case .eagerPages: self = .eagerPages(payload.bytes(at: 0, count: payload.count))
        case .handedOver: self = .handedOver(Self.tally(payload))
        case .built: self = .built
        case .grant: self = .grant(guards: try Self.runs(payload, allowedFlags: 0).runs)
        case .running: self = .running
        case .complete: self = .complete(Self.tally(payload))
        case .acknowledged: self = .acknowledged
        case .resume:
            let (runs, flags) = try Self.runs(payload, allowedFlags: ResumeOptions.known.rawValue)
            self = .resume(runs: runs, options: ResumeOptions(rawValue: flags))
        case .resumed: self = .resumed
        case .pageMap:
            let (runs, flags) = try Self.runs(payload, allowedFlags: 1)
            self = .pageMap(runs: runs, isLast: flags == 1)
        case .guardMap: self = .guardMap(runs: try Self.runs(payload, allowedFlags: 0).runs)
        case .drained: self = .drained(pages: payload.uint64(at: 0))
        case .preCopy: self = .preCopy(try PreCopyRequest(decoding: payload))
        case .preCopyRound: self = .preCopyRound(try PreCopyRound(decoding: payload))
        case .preCopied: self = try Self.preCopied(payload)
        case .preCopyMap:
            let (runs, flags) = try Self.runs(payload, allowedFlags: 1)
            self = .preCopyMap(runs: runs, isLast: flags == 1)
        case .requestPages, .pages, .zeroPages, .absentPages, .failed, .guardPages, .sentPages, .pageRun, .zeroRun:
            throw WireError(.unexpectedKind, at: 4, expected: "a message", found: "\(header.kind)")
        }
    }

    /// Decodes the payload of a frame.
    public init(header: FrameHeader, payload: [UInt8]) throws(WireError) {
        try self.init(header: header, payload: payload.span)
    }

    /// Decodes a whole frame that `sender` sent on `connection`.
    public init(decoding frame: [UInt8], on connection: ConnectionKind, from sender: Side) throws(WireError) {
        let header = try FrameHeader(decoding: frame.span, on: connection, from: sender)
        guard frame.count - FrameHeader.byteCount == header.payloadLength else {
            throw WireError(
                .truncated,
                at: 16,
                expected: "\(header.payloadLength) bytes",
                found: "\(frame.count - FrameHeader.byteCount)"
            )
        }
        try self.init(header: header, payload: frame.span.extracting(FrameHeader.byteCount..<frame.count))
    }
}

// The bounds of the kinds have been checked by FrameHeader, so each reads its fixed part without looking. Offsets in
// errors count from the start of the frame, 16 before the payload.
extension Message {
    private static func greeting(_ payload: Span<UInt8>) throws(WireError) {
        for index in 0..<4 where payload[index] != PageProtocol.magic[index] {
            throw WireError(
                .badMagic,
                at: 16,
                expected: "\"THAW\"",
                found: "something else; is this a page server's port?"
            )
        }
        let version = payload.uint16(at: 4)
        guard version == PageProtocol.version else {
            throw WireError(
                .unsupportedVersion,
                at: 20,
                expected: "version \(PageProtocol.version) of the page protocol",
                found: "version \(version); run the same release of thaw on both ends"
            )
        }
    }

    private static func hello(_ payload: Span<UInt8>) throws(WireError) -> Message {
        try greeting(payload)
        guard let connection = ConnectionKind(rawValue: payload[6]) else {
            throw WireError(.badField, at: 22, expected: "a kind of connection", found: "\(payload[6])")
        }
        guard payload[7] == 0 else { throw WireError(.badField, at: 23, expected: "zero", found: "\(payload[7])") }
        let session = SessionIdentifier(decoding: payload, at: 8)
        guard connection == .control || session != .none else {
            throw WireError(.badField, at: 24, expected: "a session on \(connection)", found: "\(session)")
        }
        return .hello(connection: connection, session: session)
    }

    private static func welcome(_ payload: Span<UInt8>) throws(WireError) -> Message {
        try greeting(payload)
        guard payload.uint16(at: 6) == 0 else {
            throw WireError(.badField, at: 22, expected: "zero", found: "something else")
        }
        let session = SessionIdentifier(decoding: payload, at: 8)
        guard session != .none else { throw WireError(.badField, at: 24, expected: "a session", found: "zeros") }
        return .welcome(session: session)
    }

    private static func text(_ payload: Span<UInt8>) throws(WireError) -> String {
        guard let text = String(validating: payload.bytes(at: 2, count: payload.count - 2), as: UTF8.self) else {
            throw WireError(.badField, at: 18, expected: "UTF-8", found: "other bytes")
        }
        guard !text.unicodeScalars.contains(where: isControl) else {
            throw WireError(.badField, at: 18, expected: "text", found: "control characters")
        }
        return text
    }

    private static func describe(_ payload: Span<UInt8>) throws(WireError) -> Message {
        let options = DescribeOptions(rawValue: payload.uint32(at: 0))
        guard options.isSubset(of: .known) else {
            throw WireError(.badField, at: 16, expected: "known options", found: "\(options.rawValue)")
        }
        return .describe(options)
    }

    private static func description(_ payload: Span<UInt8>) throws(WireError) -> Message {
        let total = payload.uint64(at: 0)
        let offset = payload.uint64(at: 8)
        let count = UInt64(payload.count - 16)
        guard total <= PageProtocol.maximumDescription else {
            throw WireError(
                .badField,
                at: 16,
                expected: "at most \(PageProtocol.maximumDescription) bytes",
                found: "\(total)"
            )
        }
        guard offset <= total, count <= total - offset else {
            throw WireError(.badField, at: 24, expected: "a piece of \(total) bytes", found: "\(count) at \(offset)")
        }
        return .description(total: total, offset: offset, bytes: payload.bytes(at: 16, count: payload.count - 16))
    }

    private static func preCopied(_ payload: Span<UInt8>) throws(WireError) -> Message {
        let number = payload.uint32(at: 4)
        guard let tracker = TrackerKind(rawValue: UInt8(clamping: number)) else {
            throw WireError(.badField, at: 20, expected: "a kind of tracker", found: "\(number)")
        }
        return .preCopied(rounds: payload.uint32(at: 0), tracker: tracker)
    }

    private static func tally(_ payload: Span<UInt8>) -> PageTally {
        PageTally(pages: payload.uint64(at: 0), high: payload.uint64(at: 16), low: payload.uint64(at: 8))
    }

    private static func runs(
        _ payload: Span<UInt8>,
        allowedFlags: UInt32
    ) throws(WireError) -> (runs: [PageRun], flags: UInt32) {
        let count = Int(payload.uint32(at: 0))
        let flags = payload.uint32(at: 4)
        guard payload.count == 8 + 16 * count else {
            throw WireError(
                .badField,
                at: 16,
                expected: "a count of \((payload.count - 8) / 16) runs",
                found: "\(count)"
            )
        }
        guard flags <= allowedFlags else {
            throw WireError(.badField, at: 20, expected: "known flags", found: "\(flags)")
        }
        var runs: [PageRun] = []
        runs.reserveCapacity(count)
        for index in 0..<count {
            let address = payload.uint64(at: 8 + 16 * index)
            let pages = payload.uint64(at: 16 + 16 * index)
            guard isRun(address: address, pages: pages) else {
                throw WireError(
                    .badField,
                    at: 24 + 16 * index,
                    expected: "a run of pages",
                    found: "\(pages) at \(VirtualAddress(address))"
                )
            }
            runs.append(PageRun(address: VirtualAddress(address), count: pages))
        }
        return (runs, flags)
    }

    /// Whether these are whole pages, at least one, that end inside of the address space.
    private static func isRun(address: UInt64, pages: UInt64) -> Bool {
        let (bytes, tooMany) = pages.multipliedReportingOverflow(by: PageSize.base)
        return address % PageSize.base == 0 && pages > 0 && !tooMany && !address.addingReportingOverflow(bytes).overflow
    }
}
