// SPDX-License-Identifier: Apache-2.0
import Checkpoint
import LinuxSystem
import Paging
import ProcessImage
import ProcessTrace
import TestSupport
import Testing

/// Pages of a frozen process are read as they are, and none comes into being by that.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: memory of other processes"))
struct PageSourceTests {
    @Test func pagesInEachStateAreTold() throws {
        try withPages { victim, start in
            let frozen = try FrozenProcess.freeze(try Examination.examine(pid: victim.pid), timeout: .seconds(20))
            let present = try presentPages(victim.pid, start)
            let reader = frozen.pageSource.makeReader()
            let buffer = try TransferBuffer(capacity: 64 * PageSize.baseBytes)
            let mask = try reader.read(start, count: 8, into: buffer, at: 0)
            // Data, untouched, zeros written, read only, data without protection, guard, data, untouched.
            #expect(mask == 0b0101_0001, "\(String(mask, radix: 2))")
            for (page, letter) in [(0, "a"), (4, "e"), (6, "g")] {
                let expected = [UInt8](repeating: letter.utf8.first ?? 0, count: PageSize.baseBytes)
                let range = page * PageSize.baseBytes..<(page + 1) * PageSize.baseBytes
                let bytes = buffer.withBytes(range) { span in span.indices.map { span[$0] } }
                #expect(bytes == expected, "page \(page)")
            }
            #expect(try presentPages(victim.pid, start) == present)
            try frozen.thaw()
        }
    }

    @Test func pagesThatExistAndGuardsAreListed() throws {
        try withPages { victim, start in
            let frozen = try FrozenProcess.freeze(try Examination.examine(pid: victim.pid), timeout: .seconds(20))
            let reader = frozen.pageSource.makeReader()
            let all = AddressRange(start, page(start, 8))
            var existing = PageSet()
            var guards: [AddressRange] = []
            try reader.survey { range in
                guard let part = range.intersection(all) else { return }
                existing.insert(part.pageNumbers)
            } guards: {
                guards.append($0)
            }
            let first = start.rawValue / 4096
            #expect((0..<8).filter { existing.contains(first + $0) } == [0, 2, 4, 6])
            let installed = AddressRange(page(start, 5), page(start, 6))
            #expect(guards.contains(installed), "\(guards)")
            #expect(frozen.guards.contains(installed), "\(frozen.guards)")
            let bits = try reader.look(at: start, count: 8)
            #expect(bits.existing == 0b0101_0101 && bits.guards == 0b0010_0000, "\(bits)")
            #expect(try reader.look(at: page(start, 4), count: 2) == (1, 2))
            #expect(frozen.pageSource.lazyRanges.contains { $0.contains(start) })
            try frozen.thaw()
        }
    }

    @Test func eagerPagesAreNotOwedAgain() throws {
        try withPages { victim, _ in
            let frozen = try FrozenProcess.freeze(try Examination.examine(pid: victim.pid), timeout: .seconds(20))
            var eager = PageSet()
            var hasArguments = false
            while let pages = try frozen.nextEagerPages() {
                #expect(pages.bytes.count % 4096 == 0 || pages.target == .sharedObject)
                guard pages.target == .process else { continue }
                eager.insert(pages.address / 4096..<(pages.address + UInt64(pages.bytes.count)) / 4096)
                let layout = frozen.description.memory.layout
                if (pages.address..<pages.address + UInt64(pages.bytes.count)).contains(layout.argStart) {
                    let text = pages.bytes[Int(layout.argStart - pages.address)...].prefix { $0 != 0 }
                    hasArguments = String(decoding: text, as: UTF8.self) == BuiltProduct.victim
                }
            }
            #expect(hasArguments)
            let reader = frozen.pageSource.makeReader()
            try reader.survey(existing: { #expect(!eager.intersects($0.pageNumbers), "\($0)") }, guards: { _ in })
            for range in frozen.pageSource.lazyRanges {
                guard let page = eager.nextRun(in: range.pageNumbers)?.lowerBound else { continue }
                #expect(try reader.look(at: VirtualAddress(pageNumber: page), count: 1) == (0, 0))
            }
            try frozen.thaw()
        }
    }

    /// It has no pages any more: PAGEMAP_SCAN says that there is no such process, and not that there is nothing.
    @Test func aProcessThatWasKilledIsNotTakenForZeros() throws {
        try withPages { victim, start in
            let frozen = try FrozenProcess.freeze(try Examination.examine(pid: victim.pid), timeout: .seconds(20))
            let reader = frozen.pageSource.makeReader()
            let buffer = try TransferBuffer(capacity: 64 * PageSize.baseBytes)
            #expect(try reader.read(start, count: 1, into: buffer, at: 0) == 1)
            try frozen.kill()
            for action in [
                { _ = try reader.read(start, count: 1, into: buffer, at: 0) },
                { _ = try reader.look(at: start, count: 1) },
                { try reader.survey(existing: { _ in }, guards: { _ in }) },
            ] {
                let error = #expect(throws: CheckpointError.self) { try action() }
                #expect(error?.code == .noSuchProcess)
            }
        }
    }

    private func page(_ start: VirtualAddress, _ number: UInt64) -> VirtualAddress {
        VirtualAddress(start.rawValue + number * 4096)
    }

    private func presentPages(_ pid: Int32, _ start: VirtualAddress) throws -> [PageRegion] {
        try Pagemap(pid: pid).scan(
            AddressRange(start, page(start, 8)),
            PageQuery(anyOf: [.present, .swapped], returning: [.present, .zero, .guardPage])
        )
    }

    private func withPages(_ body: (TestProcess, VirtualAddress) throws -> Void) throws {
        try withProcess(BuiltProduct.victim, ["pages"], options: .init(input: .pipe)) { victim in
            let line = try victim.readLine()
            guard line.hasPrefix("at "), let address = UInt64(line.dropFirst(3), radix: 16) else {
                throw TestFailure("expected an address, not \(line)")
            }
            try victim.waitForLine("ready")
            try body(victim, VirtualAddress(address))
        }
    }
}
