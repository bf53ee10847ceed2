// SPDX-License-Identifier: Apache-2.0
import FrameTransport
import LinuxSystem
import Testing

/// Threads of a session are counted, and all of them are waited for.
@Suite(.timeLimit(.minutes(5)))
struct SessionThreadsTests {
    @Test func allThreadsAreWaitedFor() throws {
        let threads = try SessionThreads()
        let ended = Lock(0)
        for index in 0..<8 {
            try threads.start("waits-\(index)") {
                _ = try? threads.stop.wait(until: .after(.seconds(50)))
                _ = try? EventDescriptor().wait(until: .after(.milliseconds(10 * index)))
                ended.withLock { $0 += 1 }
            }
        }
        #expect(ended.withLock { $0 } == 0)
        #expect(threads.stopAll(within: .seconds(20)))
        #expect(ended.withLock { $0 } == 8)
    }

    @Test func threadsThatEndedBeforeDoNotHideALaterOne() throws {
        let threads = try SessionThreads()
        let release = try EventDescriptor()
        let first = try EventDescriptor()
        try threads.start("ends-at-once") { first.signal() }
        #expect(try first.wait(until: .after(.seconds(20))))
        try threads.start("deaf") { _ = try? release.wait(until: .after(.seconds(50))) }
        #expect(!threads.stopAll(within: .milliseconds(50)))
        release.signal()
        #expect(threads.stopAll(within: .seconds(20)))
    }

    @Test func withoutThreadsThereIsNothingToWaitFor() throws {
        let threads = try SessionThreads()
        #expect(threads.stopAll(within: .zero))
        #expect(threads.bytes == (0, 0))
    }
}
