// SPDX-License-Identifier: Apache-2.0
import Checkpoint
import LinuxSystem
import Paging
import ProcessImage
import TestSupport
import Testing

/// Which shared memory arrives lazily, and which of its pages exist.
@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: Machine.isRoot, "needs root: memory of other processes"))
struct LazyObjectTests {
    /// Not what a descriptor reads, a page that has two addresses, what the kernel must not wait for, and what has no address.
    @Test func whatCannotWaitIsNotLazy() throws {
        try withObjects { frozen, starts in
            let memory = frozen.description.memory
            var lazy: Set<String> = []
            for (kind, start) in starts {
                let mapping = try #require(memory.mappings.first { $0.range.contains(start) })
                if memory.sharedObjects[Int(mapping.object)].isLazy { lazy.insert(kind) }
            }
            #expect(lazy == ["lazy", "cut"])
            let mappings = try memory.lazyObjectMappings()
            #expect(mappings.count == 3)
            #expect(mappings.contains { $0.range.lowerBound == starts["lazy"] && $0.offset == 0 })
        }
    }

    @Test func nothingIsLazyWhereItIsNotWanted() throws {
        try withObjects(ahead: true) { frozen, _ in
            #expect(!frozen.description.memory.sharedObjects.contains { $0.isLazy })
            let mappings = try frozen.description.memory.lazyObjectMappings()
            #expect(mappings.isEmpty)
        }
    }

    /// What lies in the page cache without an entry in a page table is data, and a hole stays one.
    @Test func theObjectTellsWhatExists() throws {
        try withObjects { frozen, starts in
            let start = try #require(starts["lazy"])
            let first = start.pageNumber
            let reader = frozen.pageSource.makeReader()
            let data: [UInt64] = [0, 2, 4] + (20..<32)
            for _ in 0..<2 {
                var existing = PageSet()
                try reader.survey(existing: { existing.insert($0.pageNumbers) }, guards: { _ in })
                #expect((0..<32).filter { existing.contains(first + $0) } == data)
                let bits = try reader.look(at: start, count: 32)
                #expect((0..<32).filter { bits.existing & 1 << $0 != 0 } == data && bits.guards == 0)
                let part = try reader.look(at: VirtualAddress(pageNumber: first + 3), count: 2)
                #expect(part.existing == 2)
                // The second turn finds what reading has left.
                let buffer = try TransferBuffer(capacity: 64 * PageSize.baseBytes)
                let mask = try reader.read(start, count: 32, into: buffer, at: 0)
                #expect((0..<32).filter { mask & 1 << $0 != 0 } == data.filter { $0 != 2 })
                for (page, letter) in [(0, "a"), (4, "e"), (31, "u")] {
                    let range = page * PageSize.baseBytes..<(page + 1) * PageSize.baseBytes
                    let isRight = buffer.withBytes(range) { span in
                        span.indices.allSatisfy { span[$0] == letter.utf8.first }
                    }
                    #expect(isRight, "page \(page)")
                }
            }
        }
    }

    /// Pages of other mappings before and behind are read in the same call.
    @Test func aReadMayLeaveTheMapping() throws {
        try withObjects { frozen, starts in
            let start = try #require(starts["lazy"])
            let reader = frozen.pageSource.makeReader()
            let buffer = try TransferBuffer(capacity: 64 * PageSize.baseBytes)
            let before = VirtualAddress(pageNumber: start.pageNumber - 16)
            let mask = try reader.read(before, count: 64, into: buffer, at: 0)
            #expect(mask >> 16 & 0xffff_ffff == 0xfff0_0011, "\(String(mask, radix: 16))")
            let bits = try reader.look(at: before, count: 64).existing
            #expect(bits >> 16 & 0xffff_ffff == 0xfff0_0015, "\(String(bits, radix: 16))")
        }
    }

    private func withObjects(
        ahead: Bool = false,
        _ body: (FrozenProcess, [String: VirtualAddress]) throws -> Void
    ) throws {
        try withProcess(BuiltProduct.victim, ["objects"], options: .init(input: .pipe)) { victim in
            var starts: [String: VirtualAddress] = [:]
            while true {
                let words = try victim.readLine().split(separator: " ")
                guard words.count == 2, let address = UInt64(words[1], radix: 16) else { break }
                starts[String(words[0])] = VirtualAddress(address)
            }
            #expect(starts.count == 7)
            let frozen = try FrozenProcess.freeze(
                try Examination.examine(pid: victim.pid),
                timeout: .seconds(20),
                sharedMemoryAhead: ahead
            )
            try body(frozen, starts)
            try frozen.thaw()
        }
    }
}
