// SPDX-License-Identifier: Apache-2.0
import LazyPages
import Paging
import ProcessImage
import Testing

@testable import LazyRestore

/// Which parts of which mappings are owed page by page.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct SegmentsTests {
    private static func mapping(_ pages: Range<UInt64>, flags: String = "") -> MappingDescription {
        var mapping = MappingDescription()
        mapping.start = pages.lowerBound << 12
        mapping.end = pages.upperBound << 12
        mapping.flags = flags
        return mapping
    }

    private static func range(_ pages: Range<UInt64>) -> AddressRange { AddressRange(pageNumbers: pages) }

    @Test func eagerPagesAreCutOut() {
        var eager = PageSet()
        for pages in [10..<11, 14..<16, 19..<20] as [Range<UInt64>] { eager.insert(pages) }
        let segments = DestinationConversation.segments(
            of: [Self.range(10..<20)],
            in: [Self.mapping(5..<10), Self.mapping(10..<20), Self.mapping(20..<30)],
            without: eager
        )
        #expect(segments == [Segment(Self.range(11..<14)), Segment(Self.range(16..<19))])
    }

    @Test func whatAChildDoesNotGetIsMarked() {
        let mappings = [Self.mapping(1..<2, flags: "dc"), Self.mapping(2..<3, flags: "wf"), Self.mapping(3..<4)]
        let segments = DestinationConversation.segments(of: mappings.map(\.range), in: mappings, without: PageSet())
        let expected = [
            Segment(Self.range(1..<2), isInherited: false), Segment(Self.range(2..<3), isInherited: false),
            Segment(Self.range(3..<4)),
        ]
        #expect(segments == expected)
    }

    @Test func aRangeOverSeveralMappingsIsTakenApart() {
        let mappings = [Self.mapping(1..<5), Self.mapping(5..<8, flags: "dc"), Self.mapping(9..<12)]
        let segments = DestinationConversation.segments(of: [Self.range(3..<8)], in: mappings, without: PageSet())
        #expect(segments == [Segment(Self.range(3..<5)), Segment(Self.range(5..<8), isInherited: false)])
    }

    @Test func aHundredThousandMappingsTakeNoTimeOfTheirSquare() {
        let mappings = (0..<100_000).map { Self.mapping(UInt64($0) * 2..<UInt64($0) * 2 + 1) }
        let lazy = mappings.map(\.range)
        let segments = DestinationConversation.segments(of: lazy, in: mappings, without: PageSet())
        #expect(segments.count == 100_000)
    }
}
