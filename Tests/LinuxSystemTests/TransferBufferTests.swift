// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Testing

@Suite("Transfer buffer")
struct TransferBufferTests {
    @Test(arguments: [(0, 4096), (1, 4096), (4096, 4096), (4097, 8192)])
    func theCapacityIsWholePages(_ asked: Int, _ given: Int) throws {
        #expect(try TransferBuffer(capacity: asked).capacity == given)
    }

    @Test func bytesAreZeroUntilTheyAreWritten() throws {
        let buffer = try TransferBuffer(capacity: 8192)
        buffer.withMutableBytes(4096..<4098) { bytes in
            #expect(bytes.count == 2)
            bytes[1] = 9
        }
        let seen = buffer.withBytes(4095..<4099) { bytes in (0..<4).map { bytes[$0] } }
        #expect(seen == [0, 0, 9, 0])
    }

    @Test func aRangeOutsideIsABugThatStops() async {
        await #expect(processExitsWith: .failure) {
            let buffer = try TransferBuffer(capacity: 4096)
            _ = buffer.withBytes(4000..<4097) { $0.count }
        }
        await #expect(processExitsWith: .success) {
            let buffer = try TransferBuffer(capacity: 4096)
            #expect(buffer.withBytes(4000..<4096) { $0.count } == 96)
        }
    }

    @Test func moreThanThereIsIsAnError() {
        let error = #expect(throws: SystemCallError.self) { try TransferBuffer(capacity: 1 << 60) }
        #expect(error?.errno == .noMemory)
    }
}
