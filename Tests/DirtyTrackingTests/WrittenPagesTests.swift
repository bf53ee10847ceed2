// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import Glibc
internal import TestSupport
internal import Testing

/// Counting written pages where somebody else has registered the mappings.
@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: Machine.isRoot, "needs root: userfaultfd of other processes"))
struct WrittenPagesTests {
    @Test func whatWasWrittenSinceItWasProtectedIsCounted() throws {
        let victim = try TrackedVictim()
        let region = try victim.region(512)
        let hole = try victim.region(64, filled: nil)
        let tracker = try victim.begin()
        _ = try tracker.round()
        let pages = try WrittenPages(victim.pid)
        let before = try pages.count()
        try victim.order("write-all", region.page(100), 50, 9)
        try victim.order("read-into", region.page(10) + 100, 5000)
        try victim.order("peek", region.page(20))
        // A hole that is read shows the zero page; one that is written is a new page.
        try victim.order("peek", hole.page(3))
        try victim.order("write-all", hole.page(7), 2, 9)
        let after = try pages.count()
        // Besides, the stack and the buffers of the victim.
        #expect(54...70 ~= after - before, "\(before), then \(after)")
        try victim.order("write-all", region.page(100), 50, 9)
        try victim.order("write-all", region.page(150), 20, 9)
        #expect(try pages.count() == after + 20)
        // Looking changes nothing.
        #expect(try pages.count() == after + 20)
        #expect(try pages.forget() >= after + 20)
        try victim.order("write-all", region.page(0), 3, 9)
        let afterwards = try pages.count()
        // The stack and the buffers of the victim.
        #expect(3...16 ~= afterwards, "\(afterwards)")
        try victim.order("advise", region.page(0), 3, UInt64(MADV_DONTNEED))
        #expect(try pages.count() + 3 == afterwards)
    }

    @Test func withoutRegistrationNothingCounts() throws {
        let victim = try TrackedVictim()
        _ = try victim.region(64)
        let pages = try WrittenPages(victim.pid)
        #expect(try pages.count() == 0)
        #expect(try pages.forget() == 0)
    }

    @Test func whatIsNoProcessIsSaid() {
        let error = #expect(throws: TrackingError.self) { try WrittenPages(4_194_305) }
        #expect(error?.code == .noSuchProcess && error?.message.contains("4194305") == true)
    }
}
