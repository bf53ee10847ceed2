// SPDX-License-Identifier: Apache-2.0
import LazyPages
import Paging
import TestSupport
import Testing

/// Pages that the stream has sent when they are asked for ahead.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct SentByStreamTests {
    /// A walk over 100 pages whose second touch asks for more; `expected` are those that no thread waits for.
    private static func walking() throws -> (books: Books, request: PageRequest) {
        let books = Books(segments: [Segment(range(0x1000, 100))])
        try books.completeMap([run(0x1000, 100)])
        books.expectRequest(0x1000)
        guard case .request(let request) = books.pageFaulted(.process, at: address(0x1001)) else {
            throw TestFailure("nothing is asked for")
        }
        return (books, request)
    }

    @Test func theThreadWaitsForTheStream() throws {
        let (books, request) = try Self.walking()
        #expect(request.expected == request.count - 1 && request.count == 4)
        #expect(books.sentByStream(0x1002..<0x1005) == nil)
        #expect(books.awaitsStream)
        #expect(books.pageFaulted(.process, at: address(0x1002)) == .awaitPendingReply)
        _ = try books.installAll(data(0x1002, 3))
        #expect(books.arrivedPages == 3 && !books.awaitsStream)
        #expect(books.nextBrokenPromise() == nil)
    }

    /// A stream may stand still: who misses a page of it asks then.
    @Test func nobodyWaitsForAStreamThatStandsStill() throws {
        let (books, _) = try Self.walking()
        #expect(books.sentByStream(0x1002..<0x1005) == nil)
        #expect(books.nextBrokenPromise() == 0x1002..<0x1005)
        #expect(books.nextBrokenPromise() == nil && !books.awaitsStream)
        guard case .request(let again) = books.pageFaulted(.process, at: address(0x1002)) else {
            throw TestFailure("nobody asks")
        }
        #expect(again.address == address(0x1002) && again.expected < again.count)
    }

    /// What has come and is missed again for a reason nobody told does not come by the stream a second time.
    @Test func aPageThatHasComeIsAskedForAgain() throws {
        let (books, request) = try Self.walking()
        for page in 0x1002..<0x1001 + UInt64(request.count) { _ = try books.installAll(data(page)) }
        books.expectRequest(0x1002)
        #expect(books.sentByStream(0x1002..<0x1004) == 0x1002..<0x1003)
        #expect(books.sentByStream(0x1002..<0x1004) == nil)
        books.expectRequest(0x1002)
    }

    /// Nothing that a source makes up takes memory, and what is promised is asked for again over new connections.
    @Test func onlyWhatWasAskedForIsRemembered() throws {
        let (books, _) = try Self.walking()
        #expect(books.sentByStream(0x1010..<0x1050) == nil && books.sentByStream(0x9_0000..<0x9_0040) == nil)
        #expect(!books.awaitsStream)
        #expect(books.sentByStream(0x1002..<0x1005) == nil && books.awaitsStream)
        books.connectionsRenewed()
        #expect(!books.awaitsStream)
        #expect(books.nextPendingRequest(from: address(0x1002)) == PageRequest(address: address(0x1002), count: 3))
    }
}
