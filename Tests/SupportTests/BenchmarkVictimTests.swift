// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import TestSupport
internal import Testing

/// The programs that benchmarks move are right when nobody moves them, and see wrong bytes when some are planted.
@Suite(.serialized, .timeLimit(.minutes(2)))
struct BenchmarkVictimTests {
    /// Starts a writer, lets it write, and returns its line between and its last one.
    private func write(_ words: [String]) throws -> (between: JSONValue, last: JSONValue, ending: Ending) {
        try withProcess(BuiltProduct.path("BenchmarkVictim"), ["8", "3", "write"] + words) { victim in
            try victim.waitForLine("ready")
            usleep(50_000)
            victim.signal(SIGUSR2)
            let between = try JSONValue(parsing: try victim.readLine())
            victim.signal(SIGUSR1)
            let last = try JSONValue(parsing: try victim.readLine())
            return (between, last, try victim.waitForExit())
        }
    }

    @Test(arguments: ["random", "walk"], ["page small", "page huge", "word small", "word huge"])
    func undisturbedWriterIsRight(order: String, what: String) throws {
        let what = what.split(separator: " ").map(String.init)
        let (between, last, ending) = try write(["max", order] + what)
        #expect((between["writes"]?.integer ?? 0) > 100 && (between["gap"]?.number ?? 0) > 0)
        #expect(last["wrong"]?.integer == 0 && ending == .exited(0))
    }

    @Test func writerKeepsToItsRate() throws {
        let between = try write(["64", "random", "page", "small"]).between
        let allowed = (between["seconds"]?.number ?? 0) * 64 * 256
        let writes = between["writes"]?.number ?? -1
        // It does not make up for all the time that a busy machine takes from it.
        #expect(writes > 0 && writes <= allowed + 1)
    }

    @Test func idleWriterWritesNothing() throws {
        let (between, last, _) = try write(["0", "random", "page", "small"])
        #expect(between["writes"]?.integer == 0 && last["writes"]?.integer == 0 && last["wrong"]?.integer == 0)
    }

    @Test(arguments: ["byte", "stale", "table"], ["page", "word"])
    func plantedWrongBytesAreSeen(plant: String, what: String) throws {
        let (_, last, ending) = try write(["max", "random", what, "small", plant])
        #expect((last["wrong"]?.integer ?? 0) > 0 && ending == .exited(1))
    }

    @Test(
        .enabled(if: Machine.isRoot, "needs root: userfaultfd"),
        arguments: [["dense", "2"], ["sparse", "64"], ["mappings", "200"]]
    )
    func bareTrackingFindsWhatIsWritten(memory: [String]) throws {
        try withProcess(BuiltProduct.path("TrackingFloor"), memory) { floor in
            let figures = try JSONValue(parsing: try floor.readLine())
            #expect((figures["pages"]?.integer ?? 0) >= 100 && (figures["arm"]?.number ?? 0) > 0)
            floor.signal(SIGUSR2)
            try floor.waitForLine("written")
            floor.signal(SIGUSR1)
            #expect(try floor.readLine() == #"{"wrong":0}"#)
            #expect(try floor.waitForExit() == .exited(0))
        }
    }
}
