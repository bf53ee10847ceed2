// SPDX-License-Identifier: Apache-2.0
import LazyPages
import Paging
import TestSupport
import Testing

/// Pages that the stream has sent when they are asked for ahead.
@Suite(.serialized, .timeLimit(.minutes(1)))
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
        #expect(request.expected == request.count - 1 && request.count > 1)
        #expect(books.sentByStream(0x1002..<0x1001 + UInt64(request.count)) == nil)
        #expect(books.pageFaulted(.process, at: address(0x1002)) == .awaitPendingReply)
        _ = try books.installAll(data(0x1002, 1))
        #expect(books.arrivedPages == 1)
    }

    /// What has come and is missed again for a reason nobody told does not come by the stream a second time.
    @Test func aPageThatHasComeIsAskedForAgain() throws {
        let (books, request) = try Self.walking()
        for page in 0x1002..<0x1001 + UInt64(request.count) { _ = try books.installAll(data(page, 1)) }
        books.expectRequest(0x1002)
        #expect(books.sentByStream(0x1002..<0x1004) == 0x1002..<0x1003)
        #expect(books.sentByStream(0x1002..<0x1004) == nil)
        books.expectRequest(0x1002)
    }
}
