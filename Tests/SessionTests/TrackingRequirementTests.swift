// SPDX-License-Identifier: Apache-2.0
import DirtyTracking
import Reporting
import Testing

@testable import LazyRestore

@Suite struct TrackingRequirementTests {
    private static func support(_ availability: TrackerSupport.Availability) -> TrackerSupport {
        // What else there is does not help: nobody would answer.
        TrackerSupport(writeProtectAsync: availability, writeProtectSync: .available, softDirty: .available)
    }

    @Test func aKernelThatCannotTrackIsExitCode69WithTheRemedy() {
        let lacking = Self.support(.unavailable(reason: "this kernel is old", remedy: "boot Linux 6.7 or newer"))
        let failure = #expect(throws: SessionFailure.self) { try DestinationConversation.requireTracking(lacking) }
        #expect(failure?.code.rawValue == 69)
        #expect(failure?.message == "'--track' cannot be used: this kernel is old; boot Linux 6.7 or newer")
    }

    @Test func aKernelThatCanIsTaken() throws {
        try DestinationConversation.requireTracking(Self.support(.available))
    }
}
