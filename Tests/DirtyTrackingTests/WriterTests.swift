// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing

/// Threads that write without a pause, and processes that may have only half a userfaultfd.
@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: Machine.isRoot, "needs root: userfaultfd of other processes"))
struct WriterTests {
    private static let strategies: [TrackerStrategy] = [.writeProtectAsync, .writeProtectSync]

    @Test(arguments: strategies, [1, 16])
    func writersGoOnAndLoseNothing(strategy: TrackerStrategy, threads: Int) throws {
        let writers = try Writers(threads: threads, pages: 64)
        let tracker = try WriteTracker.begin(
            writers.process.pid,
            strategy: strategy,
            scope: .privateAnonymous,
            timeout: patience
        )
        for turn in 0..<20 {
            let round = try tracker.round()
            #expect(turn == 0 || round.written.count >= UInt64(64 * threads))
            // Each thread writes to each of its pages.
            try writers.waitForTurns(2)
        }
        tracker.end()
        try writers.waitForTurns(2)
    }

    /// What a writer that meets a round every 10 ms still gets done.
    @Test func aWriterIsSlowedDownAsTheStrategyAllows() throws {
        var lines: [String] = []
        var shares: [TrackerStrategy: Double] = [:]
        for strategy in [TrackerStrategy.none] + Self.strategies {
            let writers = try Writers(threads: 1, pages: 4096)
            let tracker = try WriteTracker.begin(
                writers.process.pid,
                strategy: strategy,
                scope: .privateAnonymous,
                timeout: patience
            )
            _ = try writers.turns(marking: true)
            let began = MonotonicTime.now
            while began.elapsed < .seconds(1) {
                _ = try tracker.round()
                usleep(10_000)
            }
            let done = try writers.turns()
            shares[strategy] = Double(done)
            lines.append("\(strategy.rawValue) \(done)")
        }
        print(
            "FIGURES turns of a writer over 16 MiB in a second, a round every 10 ms: \(lines.joined(separator: ", "))"
        )
        #expect((shares[.writeProtectAsync] ?? 0) > 0)
    }

    @Test func waitingWritersGoOnWhenTheTrackingProgramIsKilled() async throws {
        let writers = try Writers(threads: 4, pages: 64)
        let folder = try Scratch("tracked")
        let file = folder.file("pid")
        let pid = writers.process.pid
        let observer = try NamedThread("observer") {
            guard let tracker = try? Self.stoppedTracker(file, victim: pid) else { return }
            kill(tracker, SIGKILL)
        }
        await #expect(processExitsWith: .signal(SIGKILL)) { [pid = pid as Int32, file = file as String] in
            let tracker = try WriteTracker.begin(
                pid,
                strategy: .writeProtectSync,
                scope: .privateAnonymous,
                timeout: patience
            )
            try writeFile(file, "\(getpid())")
            while true { _ = try tracker.round() }
        }
        observer.join()
        try writers.waitForTurns(10)
        #expect(try !ProcessMaps.readDetailed(pid).contains { $0.details?.has("uw") ?? false })
    }

    /// Stops the tracking program until all writers wait for it; its pid.
    private static func stoppedTracker(_ file: String, victim: Int32) throws -> Int32 {
        var tracker: Int32?
        try wait(for: "the tracking program") {
            tracker = (try? readText(file)).flatMap { Int32($0) }
            return tracker != nil
        }
        guard let tracker else { throw TestFailure("no pid in \(file)") }
        try wait(for: "all writers to wait for the tracker") {
            kill(tracker, SIGSTOP)
            usleep(10_000)
            if try waiting(victim) == 4 { return true }
            kill(tracker, SIGCONT)
            usleep(2000)
            return false
        }
        return tracker
    }

    private static func waiting(_ pid: Int32) throws -> Int {
        try ProcFile.threads(of: pid).filter {
            try readText("/proc/\(pid)/task/\($0)/wchan").contains("userfault")
        }.count
    }

    @Test func anUnprivilegedProcessIsTrackedAsynchronouslyOnly() throws {
        let victim = try TrackedVictim()
        let region = try victim.region(16)
        try victim.order("become", 1000)
        let before = try ProcessSnapshot(of: victim.pid)
        try #require(readText("/proc/sys/vm/unprivileged_userfaultfd") == "0\n")
        let error = #expect(throws: TrackingError.self) { try victim.begin(.sync) }
        #expect(error?.code == .permission && error?.message.contains("wp-async") ?? false)
        #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
        let tracker = try victim.begin(.async)
        _ = try tracker.round()
        // Also what the kernel writes.
        #expect(try victim.order("read-into", region.page(3), 100) == 100)
        try victim.order("write-all", region.page(5), 1, 9)
        #expect(try tracker.round().written.places(in: region) == [3, 5])
    }
}

/// A victim whose threads write without a pause.
final class Writers {
    let process: TestProcess

    init(threads: Int, pages: Int) throws {
        process = try TestProcess(
            BuiltProduct.victim,
            ["tracked-writers", "\(threads)", "\(pages)"],
            options: .init(input: .pipe)
        )
        try process.waitForLine("ready")
    }

    /// How often the slowest thread has written to all its pages since the last mark; a page that somebody else has written fails
    /// the test.
    func turns(marking: Bool = false) throws -> UInt64 {
        try process.input?.write(marking ? "mark\n" : "\n")
        let words = try process.readLine().split(separator: " ")
        guard words.count == 4, let turns = UInt64(words[1]) else { throw TestFailure("the victim said \(words)") }
        #expect(words[3] == "0", "a page changed under its writer")
        return turns
    }

    /// Waits until every thread has begun and ended so many turns from now on.
    func waitForTurns(_ count: UInt64) throws {
        _ = try turns(marking: true)
        try wait(for: "the writers to go on") { try turns() > count }
    }
}
