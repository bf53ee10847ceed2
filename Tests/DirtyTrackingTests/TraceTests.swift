// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing

/// What is left in a process, whatever ends the tracking.
@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: Machine.isRoot, "needs root: userfaultfd of other processes"))
struct TraceTests {
    @Test(arguments: TrackingWay.allCases)
    func nothingIsLeftAfterTheEnd(way: TrackingWay) throws {
        let victim = try TrackedVictim()
        let region = try victim.region(64)
        let before = try ProcessSnapshot(of: victim.pid)
        let tracker = try victim.begin(way)
        #expect(try !victim.registeredMappings.isEmpty)
        _ = try tracker.round()
        try victim.order("write-all", region.start, 8, 2)
        _ = try tracker.round()
        tracker.end()
        tracker.end()
        #expect(throws: TrackingError.self) { try tracker.round() }
        #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
        #expect(try armedPages(victim, region).isEmpty)
        #expect(try victim.order("peek", region.page(3)) & 0xff == 2)
    }

    @Test func nothingIsLeftWhenTheTrackerIsDropped() throws {
        let victim = try TrackedVictim()
        let before = try ProcessSnapshot(of: victim.pid)
        _ = try victim.begin().round()
        #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
    }

    @Test(arguments: TrackingWay.allCases)
    func nothingIsLeftWhenTheTrackingProgramIsKilled(way: TrackingWay) async throws {
        let victim = try TrackedVictim()
        let region = try victim.region(64)
        let before = try ProcessSnapshot(of: victim.pid)
        let pid = victim.pid
        let name = way.rawValue
        await #expect(processExitsWith: .signal(SIGKILL)) { [pid = pid as Int32, name = name as String] in
            guard let way = TrackingWay(rawValue: name) else { return }
            let tracker = try way.begin(pid)
            _ = try tracker.round()
            // It was armed until now.
            guard try ProcessMaps.readDetailed(pid).contains(where: { $0.details?.has("uw") ?? false }) else { return }
            kill(getpid(), SIGKILL)
            tracker.end()
        }
        try waitUntilUnchanged(victim.pid, since: before)
        #expect(try armedPages(victim, region).isEmpty)
        try victim.fill(region, 8)
        #expect(try victim.order("peek", region.page(63)) == 8)
    }

    @Test func filtersOfTheProcessDoNotApplyToTheInjectedCalls() throws {
        let victim = try TrackedVictim()
        let region = try victim.region(16)
        try victim.order("forbid")
        let before = try ProcessSnapshot(of: victim.pid)
        let tracker = try victim.begin()
        #expect(try tracker.round().written.places(in: region).count == 16)
        tracker.end()
        #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
        // They are there again.
        try victim.tell("register", [region.start, 16, 2, 0])
        #expect(try victim.process.waitForExit() == .signaled(SIGSYS))
    }

    @Test func aForeignUserfaultfdIsRefusedAndUnharmed() throws {
        let victim = try TrackedVictim()
        let region = try victim.region(16, filled: nil)
        // UFFDIO_REGISTER_MODE_MISSING
        try victim.order("register", region.start, 16, 1, 0)
        try victim.order("serve", 0x5a)
        #expect(try victim.order("peek", region.page(1)) & 0xff == 0x5a)
        let before = try ProcessSnapshot(of: victim.pid)
        let error = #expect(throws: TrackingError.self) { try victim.begin() }
        #expect(error?.code == .refused)
        #expect(error?.message.contains("\(region)") ?? false)
        #expect(error?.message.contains("it is registered with another userfaultfd") ?? false)
        #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
        #expect(try victim.order("peek", region.page(2)) & 0xff == 0x5a)
    }

    /// By its descriptor where a move depends on it, else by the range.
    @Test(arguments: [TrackingScope.privateAnonymous, .all])
    func aForeignUserfaultfdBetweenRoundsIsRefusedAndUnharmed(scope: TrackingScope) throws {
        let victim = try TrackedVictim()
        let tracker = try victim.begin(scope: scope)
        _ = try tracker.round()
        let region = try victim.region(16, filled: nil)
        try victim.order("register", region.start, 16, 1, 0)
        try victim.order("serve", 0x33)
        let error = #expect(throws: TrackingError.self) { try tracker.round() }
        let object = scope == .all ? "\(region)" : "(userfaultfd)"
        #expect(error?.code == .refused && error?.message.contains(object) ?? false)
        #expect(try victim.registeredMappings.count == 1)
        #expect(try victim.order("peek", region.page(2)) & 0xff == 0x33)
    }

    @Test func theApplicationsOwnRegistrationIsToldFromOurs() throws {
        let victim = try TrackedVictim()
        let region = try victim.region(16)
        let tracker = try victim.begin()
        _ = try tracker.round()
        // EBUSY: what we hold the application cannot have.
        #expect(try victim.ask("register", region.start, 16, 1, 0) == -Int64(EBUSY))
        #expect(tracker.owns(region.range))
        let other = try victim.region(16)
        try victim.order("register", other.start, 16, 1, 0)
        #expect(!tracker.owns(other.range))
        tracker.end()
        #expect(!tracker.owns(region.range))
    }

    @Test(arguments: TrackingWay.allCases)
    func aForkedChildIsNotTracked(way: TrackingWay) throws {
        let victim = try TrackedVictim()
        let region = try victim.region(16)
        let tracker = try victim.begin(way)
        _ = try tracker.round()
        #expect(try victim.order("fork-write", region.page(2), 99) == 7)
        let second = try tracker.round()
        #expect(second.written.places(in: region).isEmpty && second.dropped.places(in: region).isEmpty)
        #expect(try victim.order("peek", region.page(2)) == 1)
        try victim.order("write-all", region.page(3), 1, 9)
        #expect(try tracker.round().written.places(in: region) == [3])
    }

    @Test(arguments: TrackingWay.allCases)
    func anotherProgramEndsTheTracking(way: TrackingWay) throws {
        let victim = try TrackedVictim()
        let tracker = try victim.begin(way)
        _ = try tracker.round()
        try victim.tell("exec", [])
        try victim.process.waitForLine("ready")
        let error = #expect(throws: TrackingError.self) { try tracker.round() }
        #expect(error?.code == .noSuchProcess)
        #expect(error?.message.contains("has executed another program") ?? false)
        #expect(try victim.registeredMappings.isEmpty)
        #expect(try victim.region(4).pages == 4)
    }

    @Test(arguments: TrackingWay.allCases, [false, true])
    func theEndOfTheProcessEndsTheTracking(way: TrackingWay, final: Bool) throws {
        let victim = try TrackedVictim()
        let tracker = try victim.begin(way)
        _ = try tracker.round()
        victim.process.end()
        let error = #expect(throws: TrackingError.self) { try final ? tracker.finalRound() : tracker.round() }
        #expect(error?.code == .noSuchProcess)
        let none = #expect(throws: TrackingError.self) { try victim.begin(way) }
        #expect(none?.code == .noSuchProcess)
    }

    /// Pages with the mark of write protection.
    private func armedPages(_ victim: TrackedVictim, _ region: Region) throws -> [PageRegion] {
        let query = PageQuery(all: [.present, .written], inverted: .written, returning: .present)
        return try Pagemap(pid: victim.pid).scan(region.range, query)
    }
}
