// SPDX-License-Identifier: Apache-2.0
import PageWire
import Paging
import TestSupport
import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct PageFrameTests {
    struct Case: Sendable, CustomStringConvertible {
        var frame: PageFrame
        var golden: [UInt8]

        var description: String { "\(frame.kind)" }

        var connection: ConnectionKind {
            frame.kind == .pageRun || frame.kind == .zeroRun ? .bulk : .fault
        }

        var sender: Side {
            frame.kind == .requestPages ? .destination : .source
        }
    }

    static let cases: [Case] = [
        Case(
            frame: PageFrame(kind: .requestPages, request: 0x0102_0304_0506_0708, address: at(0x7fff_f000), count: 1),
            golden: bytes(
                """
                20 00 00 00             | payload length 32
                20                      | requestPages
                00 00 00                | zero
                08 07 06 05 04 03 02 01 | request id
                00 f0 ff 7f 00 00 00 00 | from 0x7ffff000 on
                01 00 00 00             | one page
                00 00 00 00             | zero
                00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  | no digest
                """
            )
        ),
        Case(
            frame: PageFrame(
                kind: .pages,
                request: 9,
                address: at(0x1000),
                count: 2,
                remaining: 3,
                digest: digest(of: 2)
            ),
            golden: bytes(
                """
                20 20 00 00  21  00 00 00  09 00 00 00 00 00 00 00 | 32 + 2 * 4096 bytes of pages, request 9
                00 10 00 00 00 00 00 00  02 00 00 00  03 00 00 00  | 2 pages at 0x1000, 3 more to come
                05 04 00 00 00 00 00 00  03 02 00 00 00 00 00 00  | digest, lower half first
                """
            )
        ),
        Case(
            frame: PageFrame(kind: .zeroPages, request: 9, address: at(0x3000), count: 64, digest: digest(of: 64)),
            golden: bytes(
                """
                20 00 00 00  22  00 00 00  09 00 00 00 00 00 00 00 | zeroPages, request 9
                00 30 00 00 00 00 00 00  40 00 00 00  00 00 00 00  | 64 pages at 0x3000
                05 04 00 00 00 00 00 00  03 02 00 00 00 00 00 00  | digest, lower half first
                """
            )
        ),
        Case(
            frame: PageFrame(kind: .absentPages, request: 9, address: at(0x3000), count: 1, remaining: 63),
            golden: bytes(
                """
                20 00 00 00  23  00 00 00  09 00 00 00 00 00 00 00 | absentPages, request 9
                00 30 00 00 00 00 00 00  01 00 00 00  3f 00 00 00  | 1 page at 0x3000, 63 more to come
                00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  | no digest
                """
            )
        ),
        Case(
            frame: PageFrame(kind: .sentPages, request: 9, address: at(0x3000), count: 2, remaining: 61),
            golden: bytes(
                """
                20 00 00 00  26  00 00 00  09 00 00 00 00 00 00 00 | sentPages, request 9
                00 30 00 00 00 00 00 00  02 00 00 00  3d 00 00 00  | 2 pages at 0x3000, 61 more to come
                00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  | no digest
                """
            )
        ),
        Case(
            frame: PageFrame(kind: .failed, request: 10, address: at(0x3000), count: 1, remaining: 71),
            golden: bytes(
                """
                20 00 00 00  24  00 00 00  0a 00 00 00 00 00 00 00 | failed, request 10
                00 30 00 00 00 00 00 00  01 00 00 00  47 00 00 00  | 1 page at 0x3000, code 71
                00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  | no digest
                """
            )
        ),
        Case(
            frame: PageFrame(kind: .pageRun, address: at(0x5000), count: 64, digest: digest(of: 64)),
            golden: bytes(
                """
                20 00 04 00  31  00 00 00  00 00 00 00 00 00 00 00 | 32 + 64 * 4096 bytes of pageRun
                00 50 00 00 00 00 00 00  40 00 00 00  00 00 00 00  | 64 pages at 0x5000
                05 04 00 00 00 00 00 00  03 02 00 00 00 00 00 00  | digest, lower half first
                """
            )
        ),
        Case(
            frame: PageFrame(kind: .zeroRun, address: at(0x5000), count: 3, digest: digest(of: 3)),
            golden: bytes(
                """
                20 00 00 00  32  00 00 00  00 00 00 00 00 00 00 00 | zeroRun
                00 50 00 00 00 00 00 00  03 00 00 00  00 00 00 00  | 3 pages at 0x5000
                05 04 00 00 00 00 00 00  03 02 00 00 00 00 00 00  | digest, lower half first
                """
            )
        ),
        Case(
            frame: PageFrame(kind: .guardPages, request: 10, address: at(0x3000), count: 2, remaining: 1),
            golden: bytes(
                """
                20 00 00 00  25 00 00 00  0a 00 00 00 00 00 00 00 | guardPages, request 10
                00 30 00 00 00 00 00 00  02 00 00 00  01 00 00 00  | 2 pages at 0x3000, 1 more to come
                00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  | no digest
                """
            )
        ),
    ]

    /// Any digest of so many pages.
    private static func digest(of count: UInt64) -> PageDigest {
        PageDigest(count: count, high: 0x0203, low: 0x0405)
    }

    private static func at(_ address: UInt64) -> VirtualAddress {
        VirtualAddress(address)
    }

    /// The first 48 bytes of a frame.
    private static func encoded(_ frame: PageFrame) -> [UInt8] {
        var result = [UInt8](repeating: 0xee, count: 56)
        var span = result.mutableSpan
        frame.encode(into: &span, at: 4)
        return Array(result[4..<52])
    }

    private static func decoded(
        _ frame: [UInt8],
        on connection: ConnectionKind,
        from sender: Side
    ) -> Result<PageFrame, WireError> {
        do throws(WireError) {
            return .success(try PageFrame(decoding: frame.span, on: connection, from: sender))
        } catch {
            return .failure(error)
        }
    }

    @Test(arguments: cases)
    func theBytesAreThoseOfTheDocumentation(_ sample: Case) {
        #expect(Self.encoded(sample.frame) == sample.golden)
        let decoded = Self.decoded(sample.golden, on: sample.connection, from: sample.sender)
        #expect(decoded == .success(sample.frame))
        #expect(sample.frame.run == PageRun(address: sample.frame.address, count: UInt64(sample.frame.count)))
    }

    @Test func everyKindOfPageFrameHasASample() {
        #expect(Set(Self.cases.map(\.frame.kind)) == Set(FrameKind.allCases.filter(\.isPageFrame)))
    }

    @Test(arguments: cases)
    func onlyFramesWithPagesCarryContents(_ sample: Case) {
        let carries = sample.frame.kind == .pages || sample.frame.kind == .pageRun
        #expect(sample.frame.contentByteCount == (carries ? Int(sample.frame.count) * 4096 : 0))
        #expect(sample.frame.header.payloadLength == 32 + sample.frame.contentByteCount)
        #expect(PageFrame.byteCount + sample.frame.contentByteCount <= PageFrame.maximumByteCount)
    }

    @Test(arguments: cases)
    func everyTruncationIsAnError(_ sample: Case) {
        for length in 0..<48 {
            let decoded = Self.decoded(Array(sample.golden[..<length]), on: sample.connection, from: sample.sender)
            guard case .failure(let error) = decoded else {
                Issue.record("\(length) bytes of \(sample) decode")
                continue
            }
            #expect(error.code == .truncated)
        }
    }

    @Test(arguments: cases)
    func everyChangedByteGivesAFrameOrAnError(_ sample: Case) {
        for position in 0..<48 {
            for change in UInt8(1)...255 {
                var altered = sample.golden
                altered[position] ^= change
                for connection in [ConnectionKind.fault, .bulk] {
                    guard case .success(let frame) = Self.decoded(altered, on: connection, from: sample.sender) else {
                        continue
                    }
                    #expect(Self.encoded(frame) == altered)
                }
            }
        }
    }

    @Test(arguments: 0..<10)
    func junkGivesAFrameOrAnError(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<2_000 {
            var frame = (0..<48).map { _ in UInt8.random(in: 0...255, using: &random) }
            frame[4] = FrameKind.allCases.randomElement(using: &random)?.rawValue ?? 0
            for index in 5..<8 { frame[index] = 0 }
            if random.one(in: 2) { for index in [2, 3] { frame[index] = 0 } }
            for connection in ConnectionKind.allCases {
                for sender in [Side.source, .destination] {
                    guard case .success(let decoded) = Self.decoded(frame, on: connection, from: sender) else {
                        continue
                    }
                    #expect(Self.encoded(decoded) == frame)
                }
            }
        }
    }

    @Test func fieldsOutsideOfTheirBoundsAreErrors() {
        let request = Self.cases[0].golden
        let bad: [(position: Int, replacement: [UInt8], code: WireError.Code, offset: Int)] = [
            (0, [0x21], .badLength, 0),
            (4, [0x99], .unknownKind, 4),
            (4, [0x21], .unexpectedKind, 4),
            (5, [1], .badField, 5),
            (6, [1], .badField, 5),
            (7, [1], .badField, 5),
            (16, [1], .badField, 16),
            (16, [0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], .badField, 16),
            (24, [0], .badField, 24),
            (24, [65], .badField, 24),
            (27, [1], .badField, 24),
            (28, [65], .badField, 28),
            (32, [1], .badField, 32),
            (47, [1], .badField, 32),
        ]
        for (position, replacement, code, offset) in bad {
            var frame = request
            for (index, byte) in replacement.enumerated() { frame[position + index] = byte }
            guard case .failure(let error) = Self.decoded(frame, on: .fault, from: .destination) else {
                Issue.record("\(replacement) at \(position) decodes")
                continue
            }
            #expect(error.code == code)
            #expect(error.offset == offset)
        }
    }

    @Test func aLengthThatIsNotThatOfItsPagesIsAnError() {
        var frame = Self.cases[1].golden  // two pages
        frame[24] = 3
        guard case .failure(let error) = Self.decoded(frame, on: .fault, from: .source) else {
            Issue.record("three pages in the space of two decode")
            return
        }
        #expect(error.code == .badLength)
    }

    @Test func aRequestIdOutsideOfTheFaultConnectionIsAnError() {
        var frame = Self.cases[6].golden
        frame[8] = 1
        guard case .failure(let error) = Self.decoded(frame, on: .bulk, from: .source) else {
            Issue.record("a request id on the bulk connection decodes")
            return
        }
        #expect(error.offset == 8)
    }

    @Test func noLengthIsBelievedBeyondTheBoundsOfItsKind() {
        for kind in FrameKind.allCases {
            for connection in ConnectionKind.allCases {
                for sender in [Side.source, .destination] where kind.isLegal(on: connection, from: sender) {
                    let bounds = kind.payloadBounds
                    for length in [bounds.lowerBound - 1, bounds.upperBound + 1, Int(UInt32.max)] where length >= 0 {
                        Self.expectBadLength(kind, length, on: connection, from: sender)
                    }
                }
            }
        }
    }

    private static func expectBadLength(
        _ kind: FrameKind,
        _ length: Int,
        on connection: ConnectionKind,
        from sender: Side
    ) {
        var frame = [UInt8](repeating: 0, count: 16)
        for index in 0..<4 { frame[index] = UInt8(truncatingIfNeeded: length >> (8 * index)) }
        frame[4] = kind.rawValue
        do throws(WireError) {
            _ = try FrameHeader(decoding: frame.span, on: connection, from: sender)
            Issue.record("\(length) bytes of \(kind) are accepted")
        } catch {
            #expect(error.code == .badLength)
        }
    }

    @Test func everyKindHasOneWay() {
        for kind in FrameKind.allCases {
            let ways = ConnectionKind.allCases.flatMap { connection in
                [Side.source, .destination].filter { kind.isLegal(on: connection, from: $0) }.map { ($0, connection) }
            }
            switch kind {
            case .hello, .welcome, .refused: #expect(ways.count == 3)
            case .abort, .ping, .pong: #expect(ways.count == 2)
            default: #expect(ways.count == 1)
            }
        }
        #expect(Side.source.peer == .destination)
        #expect(Side.destination.peer == .source)
    }
}
