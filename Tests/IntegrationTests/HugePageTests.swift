// SPDX-License-Identifier: Apache-2.0
import Glibc
import ProcessTrace
import TestSupport
import Testing

/// Huge pages at the destination.
@Suite(
    .serialized,
    .timeLimit(.minutes(2 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct HugePageTests {
    private static let mebibytes: UInt64 = 32

    /// Bytes in huge pages, and all bytes of memory.
    private static func memory(of pid: Int32) throws -> (huge: UInt64, resident: UInt64) {
        let details = try ProcessMaps.readDetailed(pid).compactMap(\.details)
        return (details.reduce(0) { $0 + $1.anonymousHuge }, details.reduce(0) { $0 + $1.resident })
    }

    @Test func memoryIsInHugePagesAgainWhenEveryPageIsThere() throws {
        let arguments = ["\(Self.mebibytes)", "1", "write", "0", "random", "page", "huge"]
        try withProcess(BuiltProduct.path("BenchmarkVictim"), arguments) { victim in
            try victim.waitForLine("ready")
            let before = try Self.memory(of: victim.pid)
            guard before.huge >= Self.mebibytes << 19 else {
                print("this kernel gives no huge pages: /sys/kernel/mm/transparent_hugepage/enabled")
                return
            }
            let move = try Move(of: victim.pid)
            let copy = try move.waitUntilRunning()
            try move.waitUntilComplete()
            try wait(for: "huge pages") { try Self.memory(of: copy).huge >= before.huge / 2 }
            // What was not there is not there now.
            #expect(try Self.memory(of: copy).resident <= before.resident + 4 << 20)
        }
    }
}
