// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxSystem
import Paging
import TestSupport
import Testing

@Suite(.serialized, .timeLimit(.minutes(10)))
struct PageStoreTests {
    /// Bytes that follow from the number of a page.
    private static func contents(of page: UInt64, age: UInt64 = 0) -> [UInt8] {
        var generator = SeededGenerator(seed: page ^ age << 40)
        return (0..<4096).map { _ in UInt8(truncatingIfNeeded: generator.next()) }
    }

    private static func buffer(_ pages: Range<UInt64>, age: UInt64 = 0) throws -> TransferBuffer {
        let buffer = try TransferBuffer(capacity: pages.count * 4096)
        for (index, page) in pages.enumerated() {
            let bytes = Self.contents(of: page, age: age)
            buffer.withMutableBytes(index * 4096..<index * 4096 + 4096) { span in
                for position in bytes.indices { span[position] = bytes[position] }
            }
        }
        return buffer
    }

    private static func bytes(_ staged: PageStore, _ page: UInt64) throws -> [UInt8] {
        let (buffer, offset) = try #require(staged.location(of: page))
        return buffer.withBytes(offset..<offset + 4096) { span in span.indices.map { span[$0] } }
    }

    @Test func pagesAreFoundWhereverTheyBelong() throws {
        let staged = try PageStore(limit: 1000)
        // Across a block, near the end of the address space, and far more blocks than one mapping has.
        var runs: [Range<UInt64>] = [510..<520, 1 << 35 - 3..<1 << 35]
        for index in UInt64(0)..<300 { runs.append(index * 5120 + 7000..<index * 5120 + 7001) }
        for run in runs { #expect(try staged.store(run, from: Self.buffer(run), at: 0)) }
        for page in runs.flatMap(\.self) { #expect(try Self.bytes(staged, page) == Self.contents(of: page)) }
        #expect(staged.pages.count == 313)
        #expect(staged.location(of: 1 << 40) == nil)
    }

    /// Another program that has the descriptor finds all of it, however many mappings it takes.
    @Test func whatIsKeptOutlivesItsProgram() throws {
        let runs = (UInt64(0)..<300).map { $0 * 5120 + 7000..<$0 * 5120 + 7002 }
        let staged = try PageStore(limit: 1000)
        for run in runs { #expect(try staged.store(run, from: Self.buffer(run), at: 0)) }
        let descriptor = OwnedDescriptor(adopting: dup(staged.descriptor))
        let adopted = try PageStore(adopting: descriptor, blocks: staged.blocks, pages: staged.pages)
        #expect(adopted.pages == staged.pages)
        for page in runs.flatMap(\.self) { #expect(try Self.bytes(adopted, page) == Self.contents(of: page)) }
        #expect(adopted.location(of: 1) == nil)
        adopted.discardAll()
        for page in runs.flatMap(\.self) { #expect(try Self.bytes(staged, page).allSatisfy { $0 == 0 }) }
    }

    @Test func aPageThatComesAgainReplacesTheEarlierOne() throws {
        let staged = try PageStore(limit: 10)
        #expect(try staged.store(3..<13, from: Self.buffer(3..<13), at: 0))
        #expect(try staged.store(5..<7, from: Self.buffer(5..<7, age: 1), at: 0))
        #expect(try Self.bytes(staged, 5) == Self.contents(of: 5, age: 1))
        #expect(try Self.bytes(staged, 7) == Self.contents(of: 7))
        #expect(staged.pages.count == 10)
    }

    @Test func thereIsNoRoomBehindTheLimit() throws {
        let staged = try PageStore(limit: 4)
        #expect(try staged.store(0..<4, from: Self.buffer(0..<4), at: 0))
        #expect(try !staged.store(4..<5, from: Self.buffer(4..<5), at: 0))
        #expect(try staged.store(0..<4, from: Self.buffer(0..<4), at: 0))
    }

    @Test func discardedBlocksTakeNoMemory() throws {
        let staged = try PageStore(limit: 10_000)
        let pages = UInt64(512)..<512 + 64
        #expect(try staged.store(pages, from: Self.buffer(pages), at: 0))
        #expect(try staged.store(2048..<2049, from: Self.buffer(2048..<2049), at: 0))
        staged.discard(block: 1)
        #expect(try Self.bytes(staged, 512).allSatisfy { $0 == 0 })
        #expect(try Self.bytes(staged, 2048) == Self.contents(of: 2048))
        staged.discard(block: 77)
    }
}
