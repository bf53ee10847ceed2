// SPDX-License-Identifier: Apache-2.0
internal import Paging

extension Message {
    /// The whole frame, header and all.
    ///
    /// Text that is too long is cut off and control characters in it become spaces; any other value outside of the
    /// bounds of the protocol is a bug of the caller and traps.
    public func encoded() -> [UInt8] {
        let payload = payload()
        var frame: [UInt8] = []
        frame.reserveCapacity(FrameHeader.byteCount + payload.count)
        FrameHeader(kind: kind, payloadLength: payload.count).append(to: &frame)
        frame.append(contentsOf: payload)
        return frame
    }

    private func payload() -> [UInt8] {
        var bytes: [UInt8] = []
        switch self {
        case .hello(let connection, let session):
            bytes += PageProtocol.magic
            bytes.append(littleEndian: PageProtocol.version)
            bytes.append(connection.rawValue)
            bytes.append(0)
            bytes += session.bytes
        case .welcome(let session):
            bytes += PageProtocol.magic
            bytes.append(littleEndian: PageProtocol.version)
            bytes.append(littleEndian: UInt16(0))
            bytes += session.bytes
        case .refused(let code, let text), .abort(let code, let text):
            bytes.append(littleEndian: code)
            bytes += Self.bounded(text)
        case .ping, .pong, .built, .running, .acknowledged, .resumed:
            break
        case .describe(let options):
            bytes.append(littleEndian: options.rawValue)
        case .description(let total, let offset, let content):
            bytes.append(littleEndian: total)
            bytes.append(littleEndian: offset)
            bytes += content
        case .eagerPages(let content):
            bytes = content
        case .handedOver(let tally), .complete(let tally):
            bytes.append(littleEndian: tally.pages)
            bytes.append(littleEndian: tally.low)
            bytes.append(littleEndian: tally.high)
        case .grant(let guards):
            Self.append(guards, flags: 0, to: &bytes)
        case .pageMap(let runs, let isLast), .preCopyMap(let runs, let isLast):
            Self.append(runs, flags: isLast ? 1 : 0, to: &bytes)
        case .resume(let runs, let options):
            Self.append(runs, flags: options.rawValue, to: &bytes)
        case .guardMap(let runs):
            Self.append(runs, flags: 0, to: &bytes)
        case .drained(let pages):
            bytes.append(littleEndian: pages)
        case .preCopy(let request):
            bytes.append(littleEndian: request.rounds)
            bytes.append(littleEndian: UInt32(0))
            bytes.append(littleEndian: request.maximumPause)
            bytes.append(littleEndian: request.maximumPages)
        case .preCopyRound(let round):
            bytes.append(littleEndian: round.number)
            bytes.append(littleEndian: UInt32(0))
            bytes.append(littleEndian: round.pages)
            bytes.append(littleEndian: round.duration)
        case .preCopied(let rounds, let tracker):
            bytes.append(littleEndian: rounds)
            bytes.append(littleEndian: UInt32(tracker.rawValue))
        }
        return bytes
    }

    private static func append(_ runs: [PageRun], flags: UInt32, to bytes: inout [UInt8]) {
        bytes.reserveCapacity(8 + 16 * runs.count)
        bytes.append(littleEndian: UInt32(truncatingIfNeeded: runs.count))
        bytes.append(littleEndian: flags)
        for run in runs {
            bytes.append(littleEndian: run.address.rawValue)
            bytes.append(littleEndian: run.count)
        }
    }

    /// Text as the protocol allows it: no control characters, at most ``PageProtocol/maximumText`` bytes of UTF-8.
    private static func bounded(_ text: String) -> [UInt8] {
        var bytes: [UInt8] = []
        for scalar in text.unicodeScalars {
            let encoded = UTF8.encode(isControl(scalar) ? " " : scalar)
            guard let encoded, bytes.count + encoded.count <= PageProtocol.maximumText else { break }
            bytes.append(contentsOf: encoded)
        }
        return bytes
    }

    /// Whether a terminal would act on `scalar`.
    static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value)
    }
}
