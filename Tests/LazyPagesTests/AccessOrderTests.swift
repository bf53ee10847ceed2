// SPDX-License-Identifier: Apache-2.0
import LazyPages
import Paging
import TestSupport
import Testing

/// How many pages cost a round trip of their own, by the order in which they are touched; without a stream, which only makes them fewer.
struct AccessOrderTests {
    /// A process that is restored, as far as missing pages go: what is asked for is there before the next touch.
    private final class Toucher {
        private let books: Books
        private(set) var missing: PageSet
        /// Touched pages.
        private(set) var touches = 0

        init(_ segments: [Range<UInt64>]) throws {
            books = Books(segments: segments.map { Segment(AddressRange(pageNumbers: $0)) })
            missing = PageSet()
            for pages in segments { missing.insert(pages) }
            try books.completeMap(segments.map { run($0.lowerBound, UInt64($0.count)) })
        }

        /// Pages that cost a round trip of their own.
        var demanded: Int { Int(books.counters.demanded) }
        /// Pages that came with others.
        var prefetched: Int { Int(books.counters.prefetched) }
        /// Of the touched pages.
        var remoteShare: Double { Double(demanded) / Double(touches) }

        func touch(_ page: UInt64) throws {
            touches += 1
            guard missing.contains(page) else { return }
            guard case .request(let first) = books.pageFaulted(.process, at: address(page)) else {
                throw TestFailure("page \(page) is missing and nobody asks for it")
            }
            #expect(first.address == address(page))
            var requests = [first]
            while let next = books.nextRequestAhead() { requests.append(next) }
            for request in requests {
                let pages = request.address.pageNumber..<request.address.pageNumber + UInt64(request.count)
                // Nothing is asked for that is there, or twice.
                #expect(missing.remove(pages) == UInt64(request.count))
                _ = try books.installAll(data(pages.lowerBound, request.count))
            }
            #expect(!missing.contains(page))
        }
    }

    private static let base: UInt64 = 0x7_0000
    private static let pages: UInt64 = 1 << 13

    private static func whole() throws -> Toucher {
        try Toucher([base..<base + pages])
    }

    @Test(arguments: [1, 2, 3, 7, 16, 31] as [UInt64], [false, true])
    func walksCostFewRoundTrips(step: UInt64, isBackwards: Bool) throws {
        let toucher = try Self.whole()
        for first in 0..<step {
            for place in 0..<(Self.pages - first + step - 1) / step {
                let page = first + place * step
                try toucher.touch(Self.base + (isBackwards ? Self.pages - 1 - page : page))
            }
        }
        #expect(toucher.missing.isEmpty)
        #expect(toucher.remoteShare <= 0.05)
    }

    /// A walk over one column of a wide table: what lies in between is not carried.
    @Test(arguments: [2, 16, 100, 513, 1000] as [UInt64], [false, true])
    func aWalkOfLongStepsCarriesWhatItTouches(step: UInt64, isBackwards: Bool) throws {
        let touches: UInt64 = 512
        let toucher = try Toucher([Self.base..<Self.base + touches * step])
        for place in 0..<touches {
            let page = isBackwards ? (touches - 1 - place) * step + 1 : place * step
            try toucher.touch(Self.base + page)
        }
        #expect(toucher.remoteShare <= 0.05)
        #expect(toucher.missing.count == touches * (step - 1))
    }

    @Test(arguments: [1, 16] as [UInt64], [2, 8, 14])
    func manyWalksAtATimeAreTold(step: UInt64, walkers: Int) throws {
        let each: UInt64 = 1 << 11
        let toucher = try Toucher([Self.base..<Self.base + each * UInt64(walkers)])
        var random = SeededGenerator(seed: 7)
        var places = [UInt64](repeating: 0, count: walkers)
        while let walker = places.indices.filter({ places[$0] < each / step }).randomElement(using: &random) {
            try toucher.touch(Self.base + UInt64(walker) * each + places[walker] * step)
            places[walker] += 1
        }
        #expect(toucher.remoteShare <= 0.08)
    }

    /// Threads that share one walk: its touches come in nearly the right order.
    @Test(arguments: [1, 16] as [UInt64])
    func aWalkOfSeveralThreadsIsTold(step: UInt64) throws {
        let toucher = try Self.whole()
        var random = SeededGenerator(seed: 11)
        let count = Int(Self.pages / step)
        for group in stride(from: 0, to: count, by: 4) {
            for place in (group..<min(count, group + 4)).shuffled(using: &random) {
                try toucher.touch(Self.base + UInt64(place) * step)
            }
        }
        #expect(toucher.remoteShare <= 0.08)
    }

    @Test(arguments: [11, 13] as [UInt64], [1, 2, 3] as [UInt64])
    func scatteredTouchesCarryNothingElse(bits: UInt64, seed: UInt64) throws {
        let pages = UInt64(1) << bits
        let toucher = try Toucher([Self.base..<Self.base + pages])
        var random = SeededGenerator(seed: seed)
        for page in (0..<pages).shuffled(using: &random) {
            try toucher.touch(Self.base + page)
        }
        // Two touches soon after one another that happen to be neighbours are taken for the beginning of a walk.
        #expect(Double(toucher.prefetched) <= 0.025 * Double(pages))
    }

    @Test func aWalkEndsWithItsMapping() throws {
        let first = Self.base..<Self.base + 100
        let second = Self.base + 164..<Self.base + 264
        let toucher = try Toucher([first, second])
        for place in 0..<7 as Range<UInt64> { try toucher.touch(Self.base + place * 16) }
        // Four that told it, and the rest of the mapping at once.
        #expect(toucher.demanded == 4)
        #expect(toucher.missing.count(in: second) == 100)
    }

    @Test func whatIsThereAlreadyIsNotAskedForAgain() throws {
        let toucher = try Self.whole()
        for place in 0..<64 as Range<UInt64> { try toucher.touch(Self.base + place * 32) }
        // The second walk meets the pages of the first at each second step.
        for place in 0..<128 as Range<UInt64> { try toucher.touch(Self.base + place * 16) }
        #expect(toucher.demanded < 20)
    }
}
