// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

@testable import Commands

/// Each in a process of its own, where descriptors and children can be counted exactly.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct ProbeTests {
    /// What a program can leave behind in itself: open descriptors and children.
    struct Belongings: Equatable {
        let descriptors: Int
        let hasChildren: Bool

        static func now() throws -> Belongings {
            // A child belongs to the thread that started it.
            let hasChildren = try namesInFolder("/proc/self/task").contains {
                try !readText("/proc/self/task/\($0)/children").isEmpty
            }
            return Belongings(descriptors: try namesInFolder("/proc/self/fd").count, hasChildren: hasChildren)
        }
    }

    @Test
    func askingTheMachineLeavesNothingBehind() async {
        await #expect(processExitsWith: .success) {
            // The first time may open what the runtime keeps.
            _ = MachineFacts.probe()
            let before = try Belongings.now()
            for _ in 0..<3 { _ = MachineFacts.probe() }
            let after = try Belongings.now()
            if after != before { exit(1) }
        }
    }

    @Test
    func aDescriptorLeftBehindWouldBeSeen() async {
        await #expect(processExitsWith: .exitCode(1)) {
            let before = try Belongings.now()
            _ = dup(0)
            let after = try Belongings.now()
            if after != before { exit(1) }
        }
    }

    @Test
    func aChildLeftBehindWouldBeSeen() async {
        await #expect(processExitsWith: .exitCode(1)) {
            let before = try Belongings.now()
            let child = try TestProcess("/usr/bin/sleep", ["60"])
            let after = try Belongings.now()
            child.end()
            if after.hasChildren != before.hasChildren { exit(1) }
        }
    }
}
