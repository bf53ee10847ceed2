// SPDX-License-Identifier: Apache-2.0
import LazyPages
import Paging
import Testing

/// Shared memory is a space of its own, whose segments nothing changes.
struct ObjectBooksTests {
    /// Private memory of 16 pages from 0x100, shared memory of 16 pages from 0x110 and of 8 from 0x200.
    private func makeBooks() -> Books {
        Books(
            segments: [Segment(range(0x100, 16))],
            objects: [Segment(range(0x200, 8)), Segment(range(0x110, 16))]
        )
    }

    @Test func aPageIsAskedForOnceAndIsThereThen() throws {
        let books = makeBooks()
        books.expectRequest(0x112, in: .objects)
        #expect(books.pageFaulted(.objects, at: address(0x112)) == .awaitPendingReply)
        #expect(try books.installAll(data(0x112)) == ["space 4294967295 0x112000+1 from 0 data"])
        // It may have been changed, or taken out, by whoever has got it: it never comes again.
        #expect(books.pageFaulted(.objects, at: address(0x112)) == .wake)
        #expect(try books.installAll(data(0x112)).isEmpty)
        try books.completeMap([run(0x110, 4)])
        #expect(books.pageFaulted(.objects, at: address(0x112)) == .wake)
    }

    @Test func whatNeverExistedIsZerosPageByPage() throws {
        let books = makeBooks()
        try books.completeMap([run(0x110, 4), run(0x200, 1)])
        books.expectZeros(0x118, 1, in: .objects)
        books.expectZeros(0x207, 1, in: .objects)
    }

    /// A move whose event has not been read may have brought anything there.
    @Test func whatIsAtNoKnownAddressWaits() throws {
        let books = makeBooks()
        #expect(books.pageFaulted(.objects, at: address(0x300)) == .awaitEverything)
        try books.completeMap([run(0x110, 4)])
        #expect(books.pageFaulted(.objects, at: address(0x300)) == .awaitEverything)
        #expect(books.pageFaulted(.objects, at: address(0x100)) == .awaitEverything)
    }

    @Test func childrenHaveNoCopyOfIt() throws {
        let books = makeBooks()
        try books.completeMap([run(0x100, 1), run(0x110, 4)])
        let child = try #require(books.forked(.process))
        #expect(books.livingSpaces.count == 3)
        let installs = try books.installAll(Arrival(address: address(0x110), count: 2, content: .data))
        #expect(installs == ["space 4294967295 0x110000+2 from 0 data"])
        #expect(try books.installAll(data(0x100)).count == 2)
        #expect(books.owesNothing(child) && books.owesNothing(.process) && !books.owesNothing(.objects))
        // What the process does with its addresses is not said of the objects.
        books.removed(.process, range(0x110, 16))
        _ = books.unmapped(.process, range(0x110, 16))
        #expect(try books.installAll(Arrival(address: address(0x112), count: 2, content: .data)).count == 1)
        #expect(books.owesNothing(.objects) && books.isResident && books.hasAllPages)
    }

    /// By it a removal can be told from a mere unmapping.
    @Test func thePagesThatAreThereAreKnown() throws {
        let books = makeBooks()
        #expect(books.firstPresentPage(in: range(0x110, 16), of: .objects) == nil)
        #expect(try books.installAll(data(0x113)).count == 1)
        #expect(books.firstPresentPage(in: range(0x110, 16), of: .objects) == 0x113)
        #expect(books.firstPresentPage(in: range(0x114, 16), of: .objects) == nil)
        try books.completeMap([run(0x111, 4), run(0x200, 2)])
        #expect(books.firstPresentPage(in: range(0x110, 16), of: .objects) == 0x113)
        #expect(books.firstPresentPage(in: range(0x114, 0x100), of: .objects) == nil)
        #expect(try books.installAll(data(0x201)).count == 1)
        #expect(books.firstPresentPage(in: range(0x114, 0x100), of: .objects) == 0x201)
        books.unmapConfirmed(.objects, range(0x201, 1))
        #expect(books.firstPresentPage(in: range(0x114, 0x100), of: .objects) == nil)
    }

    @Test func allOfItCanBeAskedFor() throws {
        let books = makeBooks()
        #expect(books.nextRequest(forAllOf: .objects) == nil)
        try books.completeMap([run(0x100, 4), run(0x110, 10), run(0x200, 8)])
        books.expectRequest(0x114, in: .objects)
        _ = try books.installAll(data(0x201))
        var asked: [PageRequest] = []
        while let request = books.nextRequest(forAllOf: .objects) { asked.append(request) }
        let expected: [(UInt64, UInt32)] = [(0x110, 4), (0x115, 5), (0x200, 1), (0x202, 6)]
        #expect(asked == expected.map { PageRequest(address: address($0.0), count: $0.1) })
        #expect(books.pageFaulted(.objects, at: address(0x206)) == .awaitPendingReply)
        // They are asked for again when connections break.
        #expect(books.nextPendingRequest(from: address(0x200)) == PageRequest(address: address(0x200), count: 1))
    }

    @Test func nothingIsOwedOnlyWhenAllHasCome() throws {
        let books = makeBooks()
        #expect(!books.owesNothing(.objects))
        try books.completeMap([run(0x113, 1)])
        #expect(!books.owesNothing(.objects) && books.owesNothing(.process) && !books.isResident)
        _ = try books.installAll(data(0x113))
        #expect(books.owesNothing(.objects) && books.isResident)
        #expect(makeMachine().owesNothing(.objects), "there is none")
    }

    @Test func guardsInSharedMemoryAreRefused() throws {
        let books = makeBooks()
        let error = #expect(throws: LazyPagesError.self) { try books.guardsArrived([run(0x10f, 2)]) }
        #expect(error?.code == .contradiction)
        try books.guardsArrived([run(0x10f, 1)])
    }
}
