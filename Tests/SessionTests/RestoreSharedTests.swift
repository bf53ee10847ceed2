// SPDX-License-Identifier: Apache-2.0
import LinuxSystem
import Reporting
import TestSupport
import Testing

@testable import LazyRestore

/// What a lost connection does to the copy, and which losses lead to new connections.
@Suite(.serialized, .timeLimit(.minutes(5))) struct RestoreSharedTests {
    private static let loss = Loss(SessionFailure(.tryAgain, "the bulk connection was lost"), isFinal: false)
    private static let end = Loss(SessionFailure(.peer, "the source lied"), isFinal: true)

    private func isBroken(_ shared: RestoreShared) throws -> Bool { try shared.broken.wait(until: .immediate) }

    @Test func whileItIsBuiltTheCopyIsKilledAndNeverCountsAsRunning() throws {
        try withProcess("/bin/sleep", ["1000"]) { copy in
            let shared = try RestoreShared()
            shared.copyIsBuilt(try ProcessDescriptor(pid: copy.pid))
            shared.lost(Self.loss, of: 1)
            #expect(try copy.waitForExit() == .signaled(9))
            let runs = shared.copyRuns()
            #expect(!runs)
            #expect(!shared.copyIsComplete())
            #expect(shared.nextLoss()?.failure.message == Self.loss.failure.message)
            #expect(try !isBroken(shared))
        }
    }

    @Test func onceItIsBuiltTheCopyIsLeftAloneAndConnectionsAreMadeAnew() throws {
        try withProcess("/bin/sleep", ["1000"]) { copy in
            let shared = try RestoreShared()
            shared.copyIsBuilt(try ProcessDescriptor(pid: copy.pid))
            #expect(shared.copyIsComplete())
            shared.lost(Self.loss, of: 1)
            #expect(try copy.pollForExit() == nil)
            #expect(try isBroken(shared))
            let runs = shared.copyRuns()
            #expect(runs)
            shared.giveUpRelease()
            #expect(try copy.pollForExit() == nil, "it runs")
            #expect(shared.nextLoss()?.failure.message == Self.loss.failure.message)
        }
    }

    @Test func whatWaitsForAPageThatNeverComesIsKilledInTheEnd() throws {
        try withProcess("/bin/sleep", ["1000"]) { copy in
            let shared = try RestoreShared()
            shared.copyIsBuilt(try ProcessDescriptor(pid: copy.pid))
            #expect(shared.copyIsComplete())
            shared.giveUpRelease()
            #expect(try copy.waitForExit() == .signaled(9))
            #expect(!shared.copyRuns())
        }
    }

    @Test func everyConnectionOfAGenerationIsLostAtOnce() throws {
        try withProcess("/bin/sleep", ["1000"]) { copy in
            let shared = try RestoreShared()
            shared.copyIsBuilt(try ProcessDescriptor(pid: copy.pid))
            _ = shared.copyIsComplete()
            let stop = shared.connectionStop
            shared.lost(Self.loss, of: 1)
            shared.lost(Self.loss, of: 1, isControl: true)
            #expect(try stop.wait(until: .immediate))
            #expect(shared.nextLoss() != nil && shared.nextLoss() == nil)
            #expect(shared.reconnected() == 2)
            #expect(try !isBroken(shared))
            // The former ones do not break the new ones.
            shared.lost(Self.loss, of: 1)
            #expect(try !isBroken(shared))
            shared.lost(Self.loss, of: 2)
            #expect(try isBroken(shared))
        }
    }

    @Test func whenEveryPageIsThereOnlyTheControlConnectionIsNeeded() throws {
        try withProcess("/bin/sleep", ["1000"]) { copy in
            let shared = try RestoreShared()
            shared.copyIsBuilt(try ProcessDescriptor(pid: copy.pid))
            _ = shared.copyIsComplete()
            shared.pagesAreComplete()
            shared.lost(Self.loss, of: 1)
            #expect(try !isBroken(shared))
            shared.lost(Self.loss, of: 1, isControl: true)
            #expect(try isBroken(shared))
        }
    }

    @Test func whatNewConnectionsCannotMendIsOnlyTold() throws {
        try withProcess("/bin/sleep", ["1000"]) { copy in
            let shared = try RestoreShared()
            shared.copyIsBuilt(try ProcessDescriptor(pid: copy.pid))
            _ = shared.copyIsComplete()
            shared.lost(Self.end, of: 1)
            #expect(try !isBroken(shared))
            #expect(shared.nextLoss()?.isFinal == true)
            shared.stopReconnecting()
            shared.lost(Self.loss, of: 1)
            #expect(try !isBroken(shared))
            #expect(shared.reconnected() == nil)
        }
    }
}
