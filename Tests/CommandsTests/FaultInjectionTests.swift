// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing

/// A program that is not built for `Tests/Faults/run` cannot be told to fail.
@Suite(.timeLimit(.minutes(5)))
struct FaultInjectionTests {
    @Test func aProgramForUseAsksNobodyForFaults() throws {
        func contains(_ text: String) throws -> Bool {
            try withProcess("/bin/grep", ["-q", "-F", text, BuiltProduct.thaw]) { try $0.waitForExit() == .exited(0) }
        }
        // Proved on a variable that it does ask for.
        #expect(try contains("THAW_REPORT_DESCRIPTOR"))
        #expect(try !contains("THAW_FAULTS"))
    }
}
