// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import LinuxSystem

@Suite(.serialized, .timeLimit(.minutes(5)))
struct AvailableMemoryTests {
    @Test func itIsLessThanThereIs() throws {
        let bytes = try AvailableMemory.byteCount()
        #expect(bytes > 1 << 20)
        #expect(bytes % 1024 == 0)
    }

    @Test func theLineIsRead() {
        let text = "MemTotal:       24 kB\nMemFree:        2 kB\nMemAvailable:   20971520 kB\nBuffers: 1 kB\n"
        #expect(AvailableMemory.parse(text) == 20 << 30)
    }

    @Test(arguments: [
        "", "MemTotal: 1 kB", "MemAvailable:", "MemAvailable: x kB", "MemAvailable: 1 MB", "MemAvailable: 1",
        "MemAvailable: 18446744073709551615 kB",
    ])
    func oddLinesAreNoNumber(text: String) {
        #expect(AvailableMemory.parse(text) == nil)
    }

    @Test func aMemoryFileGrowsInPieces() throws {
        var file = try MemoryFile(name: "thaw-test")
        let first = try file.grow(by: 8192)
        let second = try file.grow(by: 4096)
        #expect(file.size == 12288)
        second.withMutableBytes(0..<1) { $0[0] = 7 }
        first.copy(from: second, at: 0, to: 4096, count: 4096)
        #expect(first.withBytes(4096..<4097) { $0[0] } == 7)
        first.discard(4096..<8192)
        #expect(first.withBytes(4096..<4097) { $0[0] } == 0)
        #expect(second.withBytes(0..<1) { $0[0] } == 7)
    }
}
