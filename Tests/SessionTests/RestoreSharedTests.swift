// SPDX-License-Identifier: Apache-2.0
import LinuxSystem
import Reporting
import TestSupport
import Testing

@testable import LazyRestore

/// What a lost page connection does to the copy.
@Suite(.serialized, .timeLimit(.minutes(1))) struct RestoreSharedTests {
    private static let loss = SessionFailure(.tryAgain, "the bulk connection was lost")

    @Test func whileItIsBuiltTheCopyIsKilledAndNeverCountsAsRunning() throws {
        try withProcess("/bin/sleep", ["1000"]) { copy in
            let shared = try RestoreShared()
            shared.copyIsBuilt(try ProcessDescriptor(pid: copy.pid))
            shared.lost(Self.loss)
            #expect(try copy.waitForExit() == .signaled(9))
            let runs = shared.copyRuns()
            #expect(!runs)
            #expect(shared.losses.take()?.message == Self.loss.message)
        }
    }

    @Test func onceItRunsTheCopyIsLeftAlone() throws {
        try withProcess("/bin/sleep", ["1000"]) { copy in
            let shared = try RestoreShared()
            shared.copyIsBuilt(try ProcessDescriptor(pid: copy.pid))
            let runs = shared.copyRuns()
            #expect(runs)
            shared.lost(Self.loss)
            #expect(try copy.pollForExit() == nil)
            #expect(shared.losses.take()?.message == Self.loss.message)
        }
    }
}
