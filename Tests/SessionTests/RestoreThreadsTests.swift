// SPDX-License-Identifier: Apache-2.0
import LinuxSystem
import TestSupport
import Testing

@testable import LazyRestore

@Suite(.serialized, .timeLimit(.minutes(5)))
struct RestoreThreadsTests {
    /// The thread that builds the process is bound to one CPU when it starts those that serve it.
    @Test func threadsThatServeMemoryRunOnEveryCPU() throws {
        let shared = try RestoreShared()
        let all = try CPUAffinity()
        let seen = Lock([Int]())
        let done = try EventDescriptor()
        let before = try CPUAffinity.pinToCurrent()
        defer { try? before.apply() }
        try shared.start("serves") {
            let cpus = (try? CPUAffinity().cpus) ?? []
            seen.withLock { $0 = cpus }
            done.signal()
        }
        #expect(try done.wait(until: .after(patience)))
        #expect(seen.withLock { $0 } == all.cpus)
        #expect(try CPUAffinity().cpus.count == 1)
        #expect(shared.stopThreads(within: .seconds(10)))
    }
}
