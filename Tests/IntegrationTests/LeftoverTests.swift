// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// What many restores of one process leave: in the process, in what runs for them, and on the machine.
@Suite(
    .serialized,
    .timeLimit(.minutes(180 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct LeftoverTests {
    /// `THAW_RESTORES=1000` does them all, and says what there is.
    private static let asked = Machine.variable("THAW_RESTORES").flatMap { Int($0) }
    private static let restores = asked ?? 2
    /// Until files are cached and the process has touched what it touches.
    private static let warmUp = 1

    /// What a program has.
    private struct Belongings: Equatable, CustomStringConvertible {
        var descriptors: Int
        var threads: Int
        var mappings: Int
        var children: Int

        init(of pid: Int32) throws {
            descriptors = try namesInFolder("/proc/\(pid)/fd").count
            let tasks = try namesInFolder("/proc/\(pid)/task")
            threads = tasks.count
            mappings = try readText("/proc/\(pid)/maps").utf8.count { $0 == UInt8(ascii: "\n") }
            children = tasks.reduce(0) { sum, task in
                // A thread may end meanwhile.
                let list = (try? readText("/proc/\(pid)/task/\(task)/children")) ?? ""
                return sum + list.split(separator: " ").count
            }
        }

        var description: String {
            "\(descriptors) descriptors, \(threads) threads, \(mappings) mappings, \(children) children"
        }
    }

    /// What a restore has made that others can see.
    private struct Made {
        var processes: [Int32]
        /// `pid:[4026532000]`.
        var namespace: String
        /// The inode of the journal.
        var memoryFile: String

        /// What of it is still there.
        func left() throws -> [String] {
            var found = processes.filter(processIsAlive).map { "process \($0)" }
            for name in try namesInFolder("/proc") where Int32(name) != nil {
                if (try? readLink("/proc/\(name)/ns/pid")) == namespace { found.append(namespace) }
                // Processes come and go.
                let maps = (try? readText("/proc/\(name)/maps")) ?? ""
                let journals = maps.split(separator: "\n").filter { $0.contains("memfd:thaw-journal") }
                if journals.contains(where: { $0.contains(" \(memoryFile) ") }) { found.append("memory file") }
            }
            return found
        }
    }

    /// Objects of the kernel, some of which no process shows, by the name of their slab.
    private static func kernelObjects() throws -> [String: Int] {
        let kinds = ["userfaultfd_ctx_cache", "pid_namespace", "mm_struct", "signal_cache", "shmem_inode_cache"]
        var objects: [String: Int] = [:]
        for line in try readText("/proc/slabinfo").split(separator: "\n") {
            let words = line.split(separator: " ")
            guard let name = words.first.map(String.init), kinds.contains(name), words.count > 1 else { continue }
            objects[name] = Int(words[1])
        }
        return objects
    }

    /// Restores a copy of a process that runs on, ends the copy, and waits until nothing of it is left.
    ///
    /// - Returns: what the restorer had when every page was there and the copy ran.
    private static func restore(_ victim: MovableVictim) throws -> Belongings {
        var options = Move.Options()
        options.source = ["--on-complete", "continue"]
        let move = try Move(of: victim.pid, options)
        let copy = try move.waitUntilRunning()
        let crew = try Crew(of: move.restorer.pid)
        // Both end when every page is there, which may be now; whoever maps the journal is found in any case.
        let helpers = [try crew.keeper(), try Crew.guardian(of: move.restorer.pid)].compactMap { $0 }
        let made = Made(
            processes: [move.server.pid, move.restorer.pid, copy] + helpers,
            namespace: try readLink("/proc/\(copy)/ns/pid"),
            memoryFile: crew.journal
        )
        try move.waitUntilComplete()
        var belongings = try Belongings(of: move.restorer.pid)
        try wait(for: "the threads of connections to end") {
            belongings = try Belongings(of: move.restorer.pid)
            // ThreadSanitizer has one of its own.
            return belongings.threads <= (slowness == 1 ? 1 : 2)
        }
        // The search finds what is there.
        let present = try made.left()
        for expected in ["process \(copy)", made.namespace, "memory file"]
        where !present.contains(expected) {
            throw TestFailure("\(expected) is not found: \(present)")
        }
        kill(copy, SIGKILL)
        let ending = try move.restorer.waitForExit()
        guard ending == .exited(128 + SIGKILL) else { throw TestFailure("\(ending); \(move.restorer.report())") }
        var left: [String] = []
        try wait(for: "the end of \(left)") {
            left = try made.left()
            return left.isEmpty
        }
        return belongings
    }

    @Test func restoresLeaveNothing() throws {
        try withMovableVictim("carried", ["heap", "threads", "anonymous", "memfd"]) { victim in
            for _ in 0..<Self.warmUp { _ = try Self.restore(victim) }
            let (before, looks) = (try Belongings(of: victim.pid), try ProcessSnapshot(of: victim.pid))
            let objects = try Self.kernelObjects()
            let first = try Self.restore(victim)
            var last = first
            for _ in 1..<Self.restores { last = try Self.restore(victim) }

            #expect(try Belongings(of: victim.pid) == before)
            #expect(try ProcessSnapshot(of: victim.pid).changes(since: looks) == [])
            // The C library may give a thread an arena of its own, or not.
            #expect(first.descriptors == last.descriptors && first.children == last.children, "\(first); \(last)")
            #expect(abs(first.mappings - last.mappings) <= 16, "\(first); \(last)")
            let after = try Self.kernelObjects()
            if Self.asked != nil {
                print("process: \(before); restorer, first: \(first), last: \(last)")
                print("kernel before: \(objects); after \(Self.restores): \(after)")
            }
            // Others use the machine, and a slab counts by whole pages; what every second restore leaves is seen in many.
            for (kind, count) in after {
                #expect(count < (objects[kind] ?? 0) + 300 + Self.restores / 2, "\(kind): \(objects); \(after)")
            }
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
        }
    }
}
