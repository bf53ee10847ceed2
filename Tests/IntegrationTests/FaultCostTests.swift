// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// What one page that is asked for costs in system calls and allocations, counted, so that it does not depend on how busy the machine is.
@Suite(
    .serialized,
    .timeLimit(.minutes(2 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct FaultCostTests {
    private static let mebibytes = 8
    private static let pages = 2048
    private static let streamedMebibytes = 96
    /// Enough for the handshake and the page map; the pages behind them do not come.
    private static let streamedBytes: UInt64 = 24 << 10

    /// Without optimisation a call of a closure that throws, and much besides, allocates.
    private static let oursAtMost = isOptimised ? 0.01 : 24
    private static var isOptimised: Bool {
        #if DEBUG
        false
        #else
        true
        #endif
    }

    private static let compiler = Machine.program("gcc")

    /// Moves a process whose stream is held up, and has it touch its pages, scattered: each touch is a request.
    ///
    /// - Parameters:
    ///   - environment: of both programs.
    ///   - touchers: threads that touch.
    ///   - measure: called when the process runs here; it calls its second argument, which returns when all is touched.
    private func withFaults(
        _ environment: [String] = [],
        touchers: Int = 1,
        _ measure: (Move, () throws -> Void) throws -> Void
    ) throws {
        let arguments = ["\(Self.mebibytes)", "1", "touch", "scattered", "\(touchers)", "told"]
        try withProcess(BuiltProduct.path("BenchmarkVictim"), arguments) { victim in
            try victim.waitForLine("ready")
            var options = Move.Options()
            options.output = .pipe
            options.stallsStreamAfter = Self.streamedBytes
            options.environment = environment
            let move = try Move(of: victim.pid, options)
            try move.waitUntilRunning()
            // What it needs to run at all is here after this.
            usleep(200_000)
            try measure(move) {
                move.restorer.signal(SIGUSR2)
                let says = try JSONValue(parsing: try move.restorer.readLine())
                #expect(says["wrong"]?.integer == 0)
                // Each page was waited for; a few came with what ran before, or with a neighbour.
                #expect((says["waits"]?.integer ?? 0) > Self.pages - 128)
            }
        }
    }

    /// A thread that streams asks the kernel after each record whether a fault has to go first, while faults come.
    @Test func streamMakesWayForFaults() throws {
        let arguments = ["\(Self.streamedMebibytes)", "1", "touch"]
        try withProcess(BuiltProduct.path("BenchmarkVictim"), arguments) { victim in
            try victim.waitForLine("ready")
            var options = Move.Options()
            options.output = .pipe
            let move = try Move(of: victim.pid, options)
            try move.waitUntilRunning()
            let tids = [try thread("bulk-", of: move.restorer), try thread("bulk-", of: move.server)]
            try withProcess(BuiltProduct.path("CallCounter"), tids.map { "\($0)" }) { counter in
                try counter.waitForLine("ready")
                let says = try JSONValue(parsing: try move.restorer.readLine())
                #expect(says["wrong"]?.integer == 0)
                counter.signal(SIGTERM)
                let counted = try JSONValue(parsing: try counter.readLine())
                for tid in tids {
                    #expect((counted["\(tid)"]?["sched_yield"]?.integer ?? 0) > 100)
                }
            }
        }
    }

    private func thread(_ prefix: String, of process: TestProcess) throws -> Int32 {
        for name in try namesInFolder("/proc/\(process.pid)/task") {
            let comm = (try? readText("/proc/\(process.pid)/task/\(name)/comm")) ?? ""
            if comm.hasPrefix(prefix), let tid = Int32(name) { return tid }
        }
        throw TestFailure("\(process.commandLine) has no thread '\(prefix)'")
    }

    /// Calls for each page, by name, of one thread.
    private func perPage(_ calls: JSONValue?) -> [String: Double] {
        guard case .object(let members) = calls else { return [:] }
        return members.mapValues { ($0.number ?? 0) / Double(Self.pages) }
    }

    /// With one thread that touches: two waits, the message, the request, the answer, whether guards are there, the page.
    ///
    /// Requests of faults that are read together go out together, so that a page of many threads costs less.
    @Test(arguments: [(1, 7.2), (16, 5), (64, 5)]) func pageTakesFewSystemCalls(touchers: Int, atMost: Double) throws {
        try withFaults(touchers: touchers) { move, touchAll in
            let destination = try thread("uffd-", of: move.restorer)
            let source = try thread("fault-", of: move.server)
            try withProcess(BuiltProduct.path("CallCounter"), ["\(destination)", "\(source)"]) { counter in
                try counter.waitForLine("ready")
                try touchAll()
                counter.signal(SIGTERM)
                let counted = try JSONValue(parsing: try counter.readLine())
                let there = perPage(counted["\(source)"])
                let here = perPage(counted["\(destination)"])
                print("system calls a page, \(touchers) threads: destination \(here), source \(there)")
                #expect(here.values.reduce(0, +) < atMost)
                // A wait, the request, whether the page is there, the page, the answer.
                #expect(there.values.reduce(0, +) < 5.2)
            }
        }
    }

    @Test(.enabled(if: compiler != nil, "needs gcc: run deploy/bootstrap"))
    func pageAllocatesNothingOfOurs() throws {
        let scratch = try Scratch("allocations")
        let counter = scratch.file("counter.so")
        let text = "\(BuiltProduct.package)/Tests/Benchmarks/AllocationCounter/counter.c"
        let arguments = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", counter, text]
        try withProcess(Self.compiler ?? "", arguments) { compiler in
            try #require(try compiler.waitForExit() == .exited(0), "\(compiler.report())")
        }
        try withFaults(["LD_PRELOAD=\(counter)", "ALLOCATION_COUNTS=\(scratch.file("SIDE"))"]) { move, touchAll in
            let threads = [
                ("destination", try thread("uffd-", of: move.restorer)),
                ("source", try thread("fault-", of: move.server)),
            ]
            let before = try threads.map { try allocations(scratch.file($0.0), by: $0.1) }
            try touchAll()
            for (index, (side, tid)) in threads.enumerated() {
                let after = try allocations(scratch.file(side), by: tid)
                let ours = after.others - before[index].others
                let openssl = Double(after.openssl - before[index].openssl) / Double(Self.pages)
                print("allocations a page, \(side): OpenSSL \(openssl), ours \(Double(ours) / Double(Self.pages))")
                // Seen, or the counter would not be there at all.
                #expect(openssl > 0.5 && openssl < 4.1)
                #expect(Double(ours) / Double(Self.pages) <= Self.oursAtMost)
            }
        }
    }

    /// What a thread has allocated so far: `struct slot` of the counter.
    private func allocations(_ file: String, by tid: Int32) throws -> (openssl: Int, others: Int) {
        let bytes = try readBytes(file)
        func word(_ index: Int) -> Int {
            (0..<8).reduce(0) { $0 | Int(bytes[index * 8 + $1]) << (8 * $1) }
        }
        for slot in 0..<bytes.count / 24 where word(slot * 3) == Int(tid) {
            return (word(slot * 3 + 1), word(slot * 3 + 2))
        }
        throw TestFailure("thread \(tid) is not in \(file)")
    }
}
