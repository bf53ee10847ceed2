// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxSystem
import TestSupport
import Testing

private let ownCPUs = (try? CPUAffinity().cpus) ?? []

/// On which CPUs the threads of a move run while one thread touches one page after the other.
@Suite(
    .serialized,
    .timeLimit(.minutes(2 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root"),
    .enabled(if: ownCPUs.count > 1, "needs two CPUs: this process may run on one")
)
struct PlacementTests {
    /// Runs `body` with both programs, and the process, on so many CPUs.
    private func withCPUs(_ count: Int, _ body: () throws -> Void) throws {
        let before = try CPUAffinity()
        defer { try? before.apply() }
        var mask = [UInt8](repeating: 0, count: before.mask.count)
        for cpu in ownCPUs.prefix(count) { mask[cpu / 8] |= 1 << UInt8(cpu % 8) }
        try CPUAffinity(mask: mask).apply()
        try body()
    }

    /// The CPUs of the first thread whose name begins so; nil when there is none.
    private func cpus(_ prefix: String, of process: TestProcess) -> [Int]? {
        for name in (try? namesInFolder("/proc/\(process.pid)/task")) ?? [] {
            let comm = (try? readText("/proc/\(process.pid)/task/\(name)/comm")) ?? ""
            if comm.hasPrefix(prefix), let tid = Int32(name) { return try? CPUAffinity(thread: tid).cpus }
        }
        return nil
    }

    /// What was seen of the threads of faults and of those that stream, until the process has touched everything.
    private func placesSeen(_ options: [String] = [], touchers: Int) throws -> Set<[[Int]]> {
        var seen: Set<[[Int]]> = []
        let arguments = ["256", "1", "touch", "scattered", "\(touchers)"]
        try withProcess(BuiltProduct.path("BenchmarkVictim"), arguments) { victim in
            try victim.waitForLine("ready")
            var how = Move.Options()
            how.output = .pipe
            how.destination += options
            how.source += options
            let move = try Move(of: victim.pid, how)
            try move.waitUntilRunning()
            while let uffd = cpus("uffd-", of: move.restorer), let bulk = cpus("bulk-", of: move.restorer),
                let fault = cpus("fault-", of: move.server), let stream = cpus("bulk-", of: move.server)
            {
                seen.insert([uffd, fault, bulk, stream])
                usleep(300)
            }
            let says = try JSONValue(parsing: try move.restorer.readLine())
            #expect(says["wrong"]?.integer == 0)
        }
        return seen
    }

    @Test func faultsThatComeOneByOneHaveACPUOfTheirOwn() throws {
        try withCPUs(2) {
            let both = try CPUAffinity().cpus
            let seen = try placesSeen(touchers: 1)
            let apart = both.map { cpu in
                let other = both.filter { $0 != cpu }
                return [[cpu], [cpu], other, other]
            }
            // One of the two, by the number of the session.
            #expect(apart.count { seen.contains($0) } == 1, "\(seen)")
        }
    }

    @Test func whereThreadsLookAgainTheyAreLeftAlone() throws {
        try withCPUs(2) {
            let both = try CPUAffinity().cpus
            #expect(try placesSeen(["--spin", "50"], touchers: 1) == [[both, both, both, both]])
        }
    }
}
