// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import ProcessTrace
internal import TestSupport
internal import Testing

/// Threads that get less of a CPU than others, on a machine whose CPUs are all busy.
@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: Machine.isRoot, "needs root: ptrace of other processes"))
struct RaisedThreadTests {
    /// Each of the victim's threads, one of which is busy, with a policy and a nice value of its own.
    private static let ways: [(policy: SchedulingAttributes.Policy, nice: Int32)] = [
        (.idle, 0), (.other, 19), (.batch, 3), (.other, -3), (.idle, 19), (.batch, -1), (.other, 0),
    ]

    /// A victim beside twice as many busy loops as there are CPUs, in one session: sessions share CPUs among themselves first.
    private func withFullMachine(_ body: (TestProcess, [Int32: SchedulingAttributes]) throws -> Void) throws {
        let options = TestProcess.Options(input: .pipe, newSession: false)
        let victim = try TestProcess(BuiltProduct.victim, ["trace-blocked", "600000"], options: options)
        defer { victim.end() }
        var busy: Int32?
        while let line = try victim.output?.next(), line != "ready" {
            let words = line.split(separator: " ")
            if words.count == 4, words[1] == "user" { busy = Int32(words[2]) }
        }
        let loops = try CPUAffinity().cpus.flatMap { _ in [0, 1] }.map { _ in
            try TestProcess("/bin/sh", ["-c", "while :; do :; done"], options: options)
        }
        defer { for loop in loops { loop.end() } }
        var attributes: [Int32: SchedulingAttributes] = [:]
        let threads = try ProcFile.threads(of: victim.pid).sorted { first, _ in first == busy }
        for (index, tid) in threads.enumerated() {
            let way = Self.ways[index % Self.ways.count]
            var wanted = try SchedulingAttributes(thread: tid)
            (wanted.policy, wanted.nice) = way
            if index % 2 == 1 { wanted.slice = 700_000 }
            try wanted.apply(to: tid)
            attributes[tid] = try SchedulingAttributes(thread: tid)
        }
        try body(victim, attributes)
    }

    /// What differs from before: tids. Threads that have ended do not: a stop ends some calls with EINTR.
    private func changed(_ pid: Int32, since before: [Int32: SchedulingAttributes]) throws -> [Int32] {
        try ProcFile.threads(of: pid).filter { tid in
            (try? SchedulingAttributes(thread: tid)).map { $0 != before[tid] } ?? false
        }
    }

    @Test func theyAreStoppedAndHaveWhatTheyHadBefore() throws {
        try withFullMachine { (victim, before) throws in
            for _ in 0..<10 {
                let group = try TraceeGroup.freeze(victim.pid, deadline: .after(patience))
                #expect(try changed(victim.pid, since: before) == [], "what is described is what the process chose")
                #expect(group.tracees.contains { before[$0.tid]?.policy == .idle })
                try group.thaw()
                #expect(try changed(victim.pid, since: before) == [])
            }
        }
    }

    @Test func aFreezeThatFailsGivesThemBack() throws {
        try withFullMachine { (victim, before) throws in
            for _ in 0..<10 {
                let error = #expect(throws: TraceError.self) {
                    _ = try TraceeGroup.freeze(victim.pid, deadline: .immediate)
                }
                #expect(error?.code == .timedOut)
                #expect(try changed(victim.pid, since: before) == [])
            }
        }
    }
}
