// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing

@testable internal import DirtyTracking

/// Data that a device puts into memory while a page is armed leaves no mark.
@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: Machine.isRoot, "needs root: userfaultfd of other processes"))
struct UnseenWritesTests {
    private static let pages: UInt64 = 2048
    private static let turns = 25

    @Test(arguments: [TrackingWay.async, .sync])
    func aDirectReadIsNeverMissed(way: TrackingWay) throws {
        #expect(try staleTurns(way, minding: true, enough: .max) == 0)
    }

    /// Without the stop the same victim shows what goes wrong.
    @Test(
        .enabled(if: Self.readsPastTheCache, "direct reads of this file system go through the page cache"),
        .enabled(if: slowness == 1, "with a sanitizer a round takes longer than a read")
    )
    func aDirectReadWouldBeMissed() throws {
        #expect(try staleTurns(.async, minding: false, enough: 1) > 0)
    }

    private static var readsPastTheCache: Bool {
        let type = try? readText("/proc/mounts").split(separator: "\n").last { line in
            let words = line.split(separator: " ")
            return words.count > 2 && Scratch.run.path.hasPrefix(String(words[1]))
        }
        return ["ext4", "xfs", "btrfs"].contains { type?.contains(" \($0) ") ?? false }
    }

    /// Turns with pages that changed although no round has reported them, of those in which a round came while a read was on its way.
    private func staleTurns(_ way: TrackingWay, minding: Bool, enough: Int) throws -> Int {
        let folder = try Scratch("direct")
        for name in ["a", "b"] {
            let byte = UInt8(ascii: name == "a" ? "a" : "b")
            try writeFile(
                folder.file(name),
                bytes: [UInt8](repeating: byte, count: Int(Self.pages) * PageSize.baseBytes)
            )
        }
        let victim = try TestProcess(
            BuiltProduct.victim,
            ["tracked-direct-reads", folder.file("a"), folder.file("b"), "\(Self.pages)"],
            options: .init(input: .pipe)
        )
        guard let start = UInt64(try victim.readLine(), radix: 16) else { throw TestFailure("no address") }
        try victim.waitForLine("ready")
        let region = Region(start: start, pages: Self.pages)
        var looking = Looking.shortest(way.strategy)
        looking.mindsUnseenWrites = minding
        let tracker = try WriteTracker.begin(victim.pid, way.strategy, .privateAnonymous, patience, looking)
        var copy = Copy(region, try ProcessMemory(pid: victim.pid))
        try copy.take(tracker.round())
        var stale = 0
        for turn in 0..<Self.turns where stale < enough {
            try victim.input?.write("\(turn)\n")
            usleep(UInt32.random(in: 200..<10_000))
            try copy.take(tracker.round())
            try victim.waitForLine("done")
            if try copy.isStale(tracker.finalRound()) { stale += 1 }
            try copy.take(tracker.round())
        }
        return stale
    }

    /// What has been read of a region, page by page.
    private struct Copy {
        let region: Region
        let memory: ProcessMemory
        private var bytes: [UInt8]

        init(_ region: Region, _ memory: ProcessMemory) {
            self.region = region
            self.memory = memory
            bytes = [UInt8](repeating: 0, count: Int(region.pages) * PageSize.baseBytes)
        }

        mutating func take(_ round: TrackerRound) throws {
            let first = region.range.pageNumbers.lowerBound
            var rest = region.range.pageNumbers
            while let run = round.written.nextRun(in: rest) {
                rest = run.upperBound..<rest.upperBound
                let count = run.count * PageSize.baseBytes
                let new = try memory.read(VirtualAddress(pageNumber: run.lowerBound), count: count)
                let place = Int(run.lowerBound - first) * PageSize.baseBytes
                bytes.replaceSubrange(place..<place + count, with: new)
            }
        }

        func isStale(_ last: TrackerRound) throws -> Bool {
            let now = try memory.read(VirtualAddress(region.start), count: bytes.count)
            guard now != bytes else { return false }
            let first = region.range.pageNumbers.lowerBound
            return region.range.pageNumbers.contains { page in
                let place = Int(page - first) * PageSize.baseBytes
                let isClaimed = !last.written.contains(page) && !last.dropped.contains(page)
                return isClaimed && now[place..<place + PageSize.baseBytes] != bytes[place..<place + PageSize.baseBytes]
            }
        }
    }

    @Test func operationsInTheBackgroundAreRefused() throws {
        let victim = try TrackedVictim()
        let tracker = try victim.begin()
        _ = try tracker.round()
        let number = try victim.ask("ring")
        try #require(number >= 0, "io_uring is not allowed here")
        #expect(try UnseenWrites.find(victim.pid) == .refused("descriptor \(number) (io_uring)"))
        let error = #expect(throws: TrackingError.self) { try tracker.round() }
        #expect(error?.code == .refused && error?.message.contains("descriptor \(number)") ?? false)
        #expect(try victim.registeredMappings.isEmpty)
        let before = try ProcessSnapshot(of: victim.pid)
        #expect(throws: TrackingError.self) { try victim.begin() }
        #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
        // Counting writes claims nothing.
        _ = try victim.begin(scope: .all).round()
    }

    @Test func descriptorsThatReadDirectlyAreFound() throws {
        let folder = try Scratch("direct")
        try writeFile(folder.file("file"), "text")
        let victim = try TestProcess("/bin/sleep", ["60"], options: .init(input: .input(folder.file("file"))))
        #expect(try UnseenWrites.find(victim.pid) == .none)
        let reader = try TestProcess(
            BuiltProduct.victim,
            ["tracked-direct-reads", folder.file("file"), folder.file("file"), "1"],
            options: .init(input: .pipe)
        )
        try reader.waitForLine("ready")
        guard case .inCalls(let object) = try UnseenWrites.find(reader.pid) else { throw TestFailure("not found") }
        #expect(object.contains(folder.file("file")))
    }

    @Test func mountsThatMayReadDirectlyAreFound() {
        let text = """
            25 30 0:23 / /sys rw,nosuid - sysfs sysfs rw
            30 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw
            36 30 0:40 / /mnt/fuse rw shared:7 - fuse.sshfs host:/ rw
            37 30 0:41 / /mnt/host rw - 9p host rw
            """
        #expect(UnseenWrites.directMounts(text) == [36, 37])
    }
}
