// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import TestSupport
internal import Testing

/// The meter counts what a victim does.
@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: Machine.isRoot, "needs root: userfaultfd of other processes"))
struct MeterTests {
    @Test(arguments: [TrackerStrategy.writeProtectAsync, .writeProtectSync])
    func pagesAreCountedBetweenLooks(strategy: TrackerStrategy) throws {
        let victim = try TrackedVictim()
        let region = try victim.region(256)
        let before = try ProcessSnapshot(of: victim.pid)
        let meter = try WriteMeter(victim.pid, strategy: strategy, timeout: patience)
        #expect(meter.strategy == strategy)
        let there = meter.present
        #expect(there >= 256 && !meter.mappings.isEmpty)
        try victim.order("write-all", region.start, 100, 9)
        try victim.order("advise", region.page(200), 56, UInt64(MADV_DONTNEED))
        let first = try meter.measure()
        #expect(first.number == 1)
        // What the victim needs for an answer is written as well: stack, data, buffers.
        #expect((100..<150).contains(first.written), "\(first.written)")
        #expect((56..<60).contains(first.dropped), "\(first.dropped)")
        #expect(first.present == meter.present && first.present < there)
        let mapping = first.mappings.first { $0.range.contains(region.range) }
        #expect(mapping.map { $0.written >= 100 && $0.present >= 200 } ?? false)
        let second = try meter.measure()
        #expect(second.number == 2 && second.written < 50 && second.dropped == 0)
        meter.end()
        #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
        let error = #expect(throws: TrackingError.self) { try meter.measure() }
        #expect(error?.message.contains("not tracked any more") ?? false)
    }

    @Test func withoutATrackerAllPagesWithDataCount() throws {
        let victim = try TrackedVictim()
        let region = try victim.region(256)
        let reserved = try victim.region(256, filled: nil)
        try victim.order("peek", reserved.page(3))
        let meter = try WriteMeter(victim.pid, strategy: .none, timeout: patience)
        let tracked = try WriteMeter(victim.pid, strategy: .writeProtectAsync, timeout: patience)
        // The same pages as those of a tracker, but for what the victim does in between.
        #expect(meter.present <= tracked.present && meter.present + 16 > tracked.present)
        tracked.end()
        try victim.order("advise", region.page(200), 56, UInt64(MADV_DONTNEED))
        let round = try meter.measure()
        #expect(round.written == round.present && round.present < meter.present + 8)
        #expect(try victim.registeredMappings.isEmpty)
        victim.process.end()
        let error = #expect(throws: TrackingError.self) { try meter.measure() }
        #expect(error?.code == .noSuchProcess)
    }

    @Test func theTimeIsThatBetweenTheLooks() throws {
        let victim = try TrackedVictim()
        let meter = try WriteMeter(victim.pid, strategy: .writeProtectAsync, timeout: patience)
        let began = MonotonicTime.now
        usleep(50_000)
        let measurement = try meter.measure()
        let elapsed = began.elapsed
        #expect(measurement.duration >= .milliseconds(50))
        // The look before began after half of its time.
        #expect(measurement.duration <= elapsed + .milliseconds(20))
    }

    @Test func aDroppedMeterLeavesNothing() throws {
        let victim = try TrackedVictim()
        let before = try ProcessSnapshot(of: victim.pid)
        _ = try WriteMeter(victim.pid, strategy: .writeProtectAsync, timeout: patience).measure()
        #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
    }
}
