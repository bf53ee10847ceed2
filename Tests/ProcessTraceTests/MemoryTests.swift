// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing

@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: memory of other processes"))
struct MemoryTests {
    private static let page = PageSize.baseBytes

    /// Byte 0 of each page.
    private func firstBytes(_ bytes: [UInt8]) -> [UInt8] {
        stride(from: 0, to: bytes.count, by: Self.page).map { bytes[$0] }
    }

    @Test(arguments: ["hidden", "written", "readonly"])
    func pagesBehindAnyProtectionAreReadAndWritten(mapping: String) throws {
        let victim = try TracedVictim("trace-memory")
        let memory = try ProcessMemory(pid: victim.pid)
        let start = VirtualAddress(try victim.value(mapping))
        #expect(firstBytes(try memory.read(start, count: 4 * Self.page)) == [1, 2, 3, 4])
        let place = VirtualAddress(start.rawValue + UInt64(Self.page) - 2)
        try memory.write([9, 8, 7, 6], to: place)
        #expect(try memory.read(place, count: 4) == [9, 8, 7, 6])
        try memory.writeWord(0x0102_0304_0506_0708, to: start)
        #expect(try memory.readWords(start, count: 2) == [0x0102_0304_0506_0708, 0])
        victim.process.end()
    }

    @Test func aReadEndsBeforeAHole() throws {
        let victim = try TracedVictim("trace-memory")
        let memory = try ProcessMemory(pid: victim.pid)
        let start = VirtualAddress(try victim.value("dense"))
        let buffer = try TransferBuffer(capacity: 128 * Self.page)
        #expect(try memory.read(start, count: 66 * Self.page, into: buffer, at: Self.page) >= 64 * Self.page)
        buffer.withBytes(Self.page..<65 * Self.page) { bytes in
            for index in 0..<64 { #expect(bytes[index * Self.page] == UInt8(index + 1)) }
        }
        #expect(try memory.read(VirtualAddress(0x1000), count: 4096, into: buffer, at: 0) == 0)
        do {
            _ = try memory.read(VirtualAddress(0x1000), count: 1)
            Issue.record("no error")
        } catch {
            #expect(error.code == .inaccessible)
        }
        victim.process.end()
    }

    @Test func aReadEndsBeforeAGuardPage() throws {
        let victim = try TracedVictim("trace-memory")
        guard victim.lines.contains("guard 1") else { return }
        let memory = try ProcessMemory(pid: victim.pid)
        let start = VirtualAddress(try victim.value("guarded"))
        let buffer = try TransferBuffer(capacity: 4 * Self.page)
        #expect(try memory.read(start, count: 4 * Self.page, into: buffer, at: 0) == 2 * Self.page)
        victim.process.end()
    }

    @Test func aScanFindsPagesWithoutMakingThem() throws {
        let victim = try TracedVictim("trace-memory")
        let pagemap = try Pagemap(pid: victim.pid)
        let start = try victim.value("sparse")
        let length = UInt64(64 * Self.page)
        let range = AddressRange(VirtualAddress(start), VirtualAddress(start + length))
        let query = PageQuery(anyOf: [.present, .swapped], returning: [.present, .file, .zero])
        for _ in 0..<2 {
            let regions = try pagemap.scan(range, query)
            #expect(regions.map(\.range.lowerBound.rawValue) == (0..<8).map { start + UInt64($0 * 8 * Self.page) })
            #expect(regions.allSatisfy { $0.range.byteCount == PageSize.base && $0.categories == .present })
        }
        victim.process.end()
    }

    @Test func aScanTellsGuardPages() throws {
        let victim = try TracedVictim("trace-memory")
        guard victim.lines.contains("guard 1") else { return }
        let start = try victim.value("guarded")
        let range = AddressRange(VirtualAddress(start), VirtualAddress(start + UInt64(4 * Self.page)))
        let regions = try Pagemap(pid: victim.pid).scan(range, PageQuery(all: .guardPage, returning: .guardPage))
        #expect(regions.map(\.range.lowerBound.rawValue) == [start + UInt64(2 * Self.page)])
        victim.process.end()
    }

    @Test func memoryOfAProcessThatHasEndedIsGone() throws {
        let victim = try TracedVictim("trace-memory")
        let memory = try ProcessMemory(pid: victim.pid)
        let start = VirtualAddress(try victim.value("dense"))
        victim.process.end()
        do {
            _ = try memory.read(start, count: 8)
            Issue.record("no error")
        } catch {
            #expect(error.code == .gone)
        }
    }

    @Test func theExtendedStateFitsTheMachine() throws {
        let victim = try TracedVictim("trace-memory")
        try victim.frozen { (group, _) throws in
            let state = try group.leader.extendedState()
            let features = CPUFeatures()
            #expect(CPUFeatures.componentsInUse(of: state) & 3 != 0)
            #expect(features.missing(for: state) == 0)
            #expect(CPUFeatures(components: 0, areaSize: 512).missing(for: state) != 0)
            #expect(state.count >= features.areaSize)
            try group.leader.setExtendedState(state)
            #expect(try group.leader.extendedState() == state)
            #expect(try group.leader.registers().is64Bit)
            #expect(try group.leader.rseqConfiguration() != nil)
            #expect(try !group.leader.dispatchesSystemCalls())
        }
        #expect(CPUFeatures.names(of: 0b111) == ["x87", "SSE", "AVX"])
    }
}
