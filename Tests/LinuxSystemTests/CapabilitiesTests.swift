// SPDX-License-Identifier: Apache-2.0
import LinuxSystem
import TestSupport
import Testing

/// Capabilities belong to threads.
@Suite(.timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: others have no capabilities to give up"))
struct CapabilitiesTests {
    @Test func aThreadGivesUpWhatItsStarterKeeps() throws {
        let before = try Capabilities.effective
        let seen = Lock<[Capabilities]>([])
        func look() { seen.withLock { $0.append((try? Capabilities.effective) ?? .init(rawValue: .max)) } }
        try NamedThread("gives-up") {
            try? Capabilities([.sysPtrace, .kill]).limitCurrentThread()
            look()
            // What it has given up does not come back, neither to it nor to those that it starts.
            try? Capabilities([.sysPtrace, .dacOverride]).limitCurrentThread()
            look()
            try? NamedThread("inherits") { look() }.join()
        }.join()
        let kept = before.intersection([.sysPtrace, .kill])
        let rest = before.intersection(.sysPtrace)
        #expect(seen.withLock { $0 } == [kept, rest, rest])
        #expect(try Capabilities.effective == before)
    }
}
