// SPDX-License-Identifier: Apache-2.0
import PageWire
import Paging
import TestSupport
import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct MessageTests {
    @Test(arguments: Sample.all)
    func theBytesAreThoseOfTheDocumentation(_ sample: Sample) throws {
        #expect(sample.message.encoded() == sample.golden)
        let decoded = try Message(decoding: sample.golden, on: sample.connection, from: sample.sender)
        #expect(decoded == sample.message)
    }

    @Test func everyKindOfMessageHasASample() {
        let kinds = Set(Sample.all.map(\.message.kind))
        #expect(kinds == Set(FrameKind.allCases.filter { !$0.isPageFrame }))
    }

    @Test(arguments: Sample.all)
    func everyTruncationIsAnError(_ sample: Sample) {
        for length in 0..<sample.golden.count {
            #expect(throws: WireError.self) {
                try Message(decoding: Array(sample.golden[..<length]), on: sample.connection, from: sample.sender)
            }
        }
        #expect(throws: WireError.self) {
            try Message(decoding: sample.golden + [0], on: sample.connection, from: sample.sender)
        }
    }

    @Test(arguments: Sample.all)
    func theOtherSideMayNotSendWhatIsNotItsToSend(_ sample: Sample) {
        let kind = sample.message.kind
        for connection in ConnectionKind.allCases {
            for sender in [Side.source, .destination] {
                let error = Self.error(sample.golden, on: connection, from: sender)
                #expect((error?.code == .unexpectedKind) == !kind.isLegal(on: connection, from: sender))
            }
        }
    }

    /// What is changed stays inside of the types: any answer but a trap will do, and a message that comes back is one
    /// that can be encoded to what was read.
    @Test(arguments: Sample.all)
    func everyChangedByteGivesAMessageOrAnError(_ sample: Sample) {
        for position in sample.golden.indices {
            for change in [1, 0x80, 0xff] as [UInt8] {
                var altered = sample.golden
                altered[position] ^= change
                Self.expectCanonical(altered, on: sample.connection, from: sample.sender)
            }
        }
    }

    @Test(arguments: 0..<20)
    func junkGivesAMessageOrAnError(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<300 {
            var frame = (0..<Int.random(in: 0...200, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            for connection in ConnectionKind.allCases {
                Self.expectCanonical(frame, on: connection, from: random.one(in: 2) ? .source : .destination)
            }
            // A right header in front of junk reaches the payload decoders.
            guard frame.count >= 16, let kind = FrameKind.allCases.randomElement(using: &random) else { continue }
            let length = UInt32(frame.count - 16)
            for index in 0..<4 { frame[index] = UInt8(truncatingIfNeeded: length >> UInt32(8 * index)) }
            frame[4] = kind.rawValue
            for index in 5..<16 { frame[index] = 0 }
            if random.one(in: 2), frame.count >= 24 {
                let runs = UInt32((frame.count - 24) / 16)
                for index in 0..<4 { frame[16 + index] = UInt8(truncatingIfNeeded: runs >> UInt32(8 * index)) }
                for index in 20..<24 { frame[index] = 0 }
            }
            for connection in ConnectionKind.allCases {
                Self.expectCanonical(frame, on: connection, from: .source)
                Self.expectCanonical(frame, on: connection, from: .destination)
            }
        }
    }

    private static func error(_ frame: [UInt8], on connection: ConnectionKind, from sender: Side) -> WireError? {
        do throws(WireError) {
            _ = try Message(decoding: frame, on: connection, from: sender)
            return nil
        } catch {
            return error
        }
    }

    private static func expectCanonical(_ frame: [UInt8], on connection: ConnectionKind, from sender: Side) {
        do throws(WireError) {
            let message = try Message(decoding: frame, on: connection, from: sender)
            #expect(message.encoded() == frame)
        } catch {
            #expect(error.offset >= 0)
            #expect(error.offset <= max(16, frame.count) + 16)
        }
    }
}

@Suite(.serialized, .timeLimit(.minutes(5)))
struct MessageFieldTests {
    /// The payload of a golden frame with some bytes replaced.
    private static func altered(_ message: Message, _ position: Int, _ replacement: [UInt8]) -> [UInt8] {
        var frame = message.encoded()
        for (index, byte) in replacement.enumerated() { frame[position + index] = byte }
        return frame
    }

    private static func error(
        _ frame: [UInt8],
        on connection: ConnectionKind = .control,
        from sender: Side
    ) -> WireError? {
        do throws(WireError) {
            _ = try Message(decoding: frame, on: connection, from: sender)
            return nil
        } catch {
            return error
        }
    }

    @Test func aGreetingOfSomethingElseIsNamed() {
        let http = Self.altered(.hello(connection: .control, session: .none), 16, Array("HTTP".utf8))
        let error = Self.error(http, from: .destination)
        #expect(error?.code == .badMagic)
        #expect(error?.offset == 16)
        #expect(error?.description.contains("is this a page server's port?") == true)
    }

    @Test func anotherVersionIsNamedWithItsRemedy() {
        let frame = Self.altered(.hello(connection: .control, session: .none), 20, [2, 1])
        let error = Self.error(frame, from: .destination)
        #expect(error?.code == .unsupportedVersion)
        #expect(error?.found == "version 258; run the same release of thaw on both ends")
    }

    @Test func aSessionBelongsToEveryConnectionButTheFirst() {
        let none = Self.altered(.hello(connection: .control, session: .none), 22, [2])
        #expect(Self.error(none, on: .fault, from: .destination)?.offset == 24)
        // A control connection that names one takes it up again.
        let some = Self.altered(.hello(connection: .fault, session: Sample.session ?? .none), 22, [1])
        #expect(Self.error(some, from: .destination) == nil)
        let unknown = Self.altered(.hello(connection: .control, session: .none), 22, [9])
        #expect(Self.error(unknown, from: .destination)?.offset == 22)
        var empty = Message.welcome(session: Sample.session ?? .none).encoded()
        for index in 24..<56 { empty[index] = 0 }
        #expect(Self.error(empty, from: .source)?.offset == 24)
    }

    @Test func aDescriptionPieceStaysInsideOfTheWhole() {
        let piece = Message.description(total: 100, offset: 90, bytes: Array(repeating: 1, count: 10))
        #expect(Self.error(piece.encoded(), from: .source) == nil)
        #expect(Self.error(Self.altered(piece, 24, [91]), from: .source)?.offset == 24)
        #expect(Self.error(Self.altered(piece, 24, Array(repeating: 0xff, count: 8)), from: .source)?.offset == 24)
        #expect(Self.error(Self.altered(piece, 16, Array(repeating: 0xff, count: 8)), from: .source)?.offset == 16)
    }

    @Test func runsAreWholePagesInsideOfTheAddressSpace() {
        let map = Message.pageMap(runs: [PageRun(address: VirtualAddress(0x1000), count: 1)], isLast: true)
        let bad: [(Int, [UInt8])] = [
            (24, [1]),  // not page-aligned
            (32, [0]),  // no pages
            (32, Array(repeating: 0xff, count: 8)),  // more pages than addresses
            (24, [0, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),  // beyond the end
        ]
        for (position, replacement) in bad {
            let error = Self.error(Self.altered(map, position, replacement), on: .bulk, from: .source)
            #expect(error?.code == .badField)
            #expect(error?.offset == 24)
        }
        #expect(Self.error(Self.altered(map, 16, [2]), on: .bulk, from: .source)?.offset == 16)
        #expect(Self.error(Self.altered(map, 20, [2]), on: .bulk, from: .source)?.offset == 20)
        let resume = Message.resume(runs: [], options: [.last, .hasMap, .hasPreCopyMap])
        #expect(Self.error(resume.encoded(), from: .destination) == nil)
        #expect(Self.error(Self.altered(resume, 20, [8]), from: .destination)?.offset == 20)
        #expect(Self.error(Self.altered(resume, 16, [1]), from: .destination)?.offset == 16)
        let grant = Message.grant(guards: [])
        #expect(Self.error(Self.altered(grant, 20, [1]), from: .source)?.offset == 20)
    }

    @Test func preCopyIsBounded() {
        let request = Message.preCopy(PreCopyRequest(rounds: 1, maximumPause: 0, maximumPages: 0))
        #expect(Self.error(request.encoded(), from: .destination) == nil)
        #expect(Self.error(Self.altered(request, 16, [0]), from: .destination)?.offset == 16)
        #expect(Self.error(Self.altered(request, 16, [0xe9, 0x03]), from: .destination)?.offset == 16)
        #expect(Self.error(Self.altered(request, 20, [1]), from: .destination)?.offset == 20)
        let round = Message.preCopyRound(PreCopyRound(number: 1, pages: 1, duration: 1))
        #expect(Self.error(Self.altered(round, 20, [1]), on: .bulk, from: .source)?.offset == 20)
        for kind in TrackerKind.allCases {
            let end = Message.preCopied(rounds: 1, tracker: kind)
            #expect(Self.error(end.encoded(), on: .bulk, from: .source) == nil)
            #expect(Self.error(Self.altered(end, 20, [4]), on: .bulk, from: .source)?.offset == 20)
            #expect(Self.error(Self.altered(end, 20, [0, 1]), on: .bulk, from: .source)?.offset == 20)
        }
    }

    @Test func unknownOptionsAreNotIgnored() {
        let frame = Self.altered(.describe([]), 16, [4])
        #expect(Self.error(frame, from: .destination)?.offset == 16)
    }

    @Test func textCannotActOnATerminal() throws {
        let message = Message.refused(code: 78, text: "fd 7\u{1b}[2J\n\u{9b}x")
        let decoded = try Message(decoding: message.encoded(), on: .control, from: .source)
        #expect(decoded == .refused(code: 78, text: "fd 7 [2J  x"))
        let control = Self.altered(.refused(code: 78, text: "ab"), 18, [0x1b])
        #expect(Self.error(control, from: .source)?.found == "control characters")
        let invalid = Self.altered(.refused(code: 78, text: "ab"), 18, [0xc3])
        #expect(Self.error(invalid, from: .source)?.expected == "UTF-8")
    }

    @Test func textIsCutOffBetweenCharacters() throws {
        let message = Message.abort(code: 1, text: "a" + String(repeating: "ö", count: 4096))
        let frame = message.encoded()
        #expect(frame.count == 16 + 2 + 4095)
        let decoded = try Message(decoding: frame, on: .control, from: .source)
        #expect(decoded == .abort(code: 1, text: "a" + String(repeating: "ö", count: 2047)))
    }

    @Test func theLargestFramesFit() throws {
        let runs = (0..<PageProtocol.maximumMapRuns).map {
            PageRun(address: VirtualAddress(UInt64($0) << 12), count: 1)
        }
        let largest: [(Message, ConnectionKind)] = [
            (.pageMap(runs: runs, isLast: false), .bulk),
            (.eagerPages(Array(repeating: 7, count: PageProtocol.maximumEagerChunk)), .control),
            (
                .description(
                    total: PageProtocol.maximumDescription,
                    offset: 0,
                    bytes: Array(repeating: 7, count: PageProtocol.maximumChunk)
                ), .control
            ),
        ]
        for (message, connection) in largest {
            let decoded = try Message(decoding: message.encoded(), on: connection, from: .source)
            #expect(decoded == message)
        }
    }

    @Test func aSessionIdentifierIsThirtyTwoBytesAndNeverPrinted() {
        #expect(SessionIdentifier(bytes: Array(repeating: 1, count: 31)) == nil)
        #expect(SessionIdentifier(bytes: Array(repeating: 0, count: 32)) == SessionIdentifier.none)
        #expect(Sample.session?.bytes == Array(1...32))
        #expect(Sample.session?.description == "a session")
        for index in 0..<32 {
            var other = Array(UInt8(1)...32)
            other[index] ^= 0x10
            #expect(SessionIdentifier(bytes: other) != Sample.session)
        }
    }

    @Test func aTallyShowsItsDigest() {
        let tally = PageTally(pages: 2, high: 1, low: 0xab)
        #expect(tally.description == "2 pages, digest 000000000000000100000000000000ab")
        var digest = PageDigest()
        digest.addZeros(address: VirtualAddress(0x1000))
        #expect(PageTally(digest).digest == digest.description)
        #expect(PageTally(digest).pages == 1)
    }
}
