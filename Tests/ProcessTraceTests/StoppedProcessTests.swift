// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import ProcessTrace
internal import Synchronization
internal import TestSupport
internal import Testing

/// A process that is stopped and let go, again and again, sees nothing of it.
@Suite(.serialized, .timeLimit(.minutes(3)), .enabled(if: Machine.isRoot, "needs root: ptrace of other processes"))
struct StoppedProcessTests {
    private static let stops = 50

    @Test func threadsInEveryKindOfCallSeeNothingOfFiftyStops() throws {
        let folder = try Scratch("stopped-calls")
        try withVictim("carried", [folder.path, "calls", "ipc-calls"]) { victim in
            // Their time-outs end 1 s after this began.
            for _ in 0..<Self.stops { try stopAndAsk(victim.pid) }
            try writeFile(folder.file("round.1"), "")
            try victim.waitForLine("round 1 ok")
            try writeFile(folder.file("go"), "")
            let last = try victim.output?.rest().last
            #expect(last == "ok carried", "\(last ?? "nothing")")
        }
    }

    @Test func aTimeOutEndsWhenItShouldHoweverOftenItIsInterrupted() throws {
        let began = MonotonicTime.now
        try withVictim("ticking") { victim in
            try victim.waitForLine("tick 1")
            var lines: [String] = []
            for _ in 0..<Self.stops {
                try stopAndAsk(victim.pid)
                // A time-out of 100 ms that started over would not end before the last stop. No line in this time is no failure.
                if let line = try? victim.readLine(within: .milliseconds(30)) { lines.append(line) }
            }
            #expect(lines.count >= 5)
            #expect(lines.count <= Int(began.elapsed / .milliseconds(100)))
            #expect(lines == (2..<lines.count + 2).map { "tick \($0)" })
        }
    }

    /// Shows that the victim tells what the test above looks for.
    @Test func aStopThatGivesNothingBackIsSeen() throws {
        try withVictim("ticking") { victim in
            try wait(for: "the call") { try ProcFile.read("/proc/\(victim.pid)/syscall").starts(with: "232 ".utf8) }
            try TraceeGroup.freeze(victim.pid, deadline: .after(patience)).thaw()
            #expect(try victim.readLine() == "interrupted")
        }
    }

    @Test func theEndOfASleepStaysWhereItIs() throws {
        // Numbers of the calls and their time-outs in seconds.
        let calls: [UInt64: Int64] = [7: 400, 35: 500, 230: 600, 202: 700, 232: 800, 128: 900, 441: 1000]
        try withProcess(BuiltProduct.victim, ["sleeping"], options: .init(input: .pipe)) { victim in
            try victim.waitForLine("ready")
            try waitUntilAsleep(victim.pid)
            var ends: [UInt64: Int64] = [:]
            for round in 1...Self.stops {
                let stopped = try StoppedProcess.stop(victim.pid, timeout: patience)
                let began = Int64(stopped.began.nanoseconds)
                var seen: Set<UInt64> = []
                for thread in stopped.threads where thread.timeLeft >= 0 {
                    let number = try #require(thread.number, "round \(round)")
                    let end = began + thread.timeLeft
                    seen.insert(number)
                    #expect(thread.timeLeft <= (calls[number] ?? 0) * 1_000_000_000, "call \(number)")
                    // Epoll's time-out counts in milliseconds and is rounded up each time.
                    #expect(abs(end - ends[number, default: end]) < 250_000_000, "call \(number), round \(round)")
                    ends[number] = ends[number] ?? end
                }
                #expect(seen == Set(calls.keys), "round \(round)")
                try stopped.letGo()
                try waitUntilAsleep(victim.pid)
            }
        }
    }

    /// One look in forty passes over one of them while other threads sleep for so short a time.
    @Test func everyTimerIsListedWhateverElseGoesOff() throws {
        try withProcess(BuiltProduct.victim, ["sleeping"], options: .init(input: .pipe)) { victim in
            let start = Int64(MonotonicTime.now.nanoseconds)
            try victim.waitForLine("ready")
            try waitUntilAsleep(victim.pid)
            let known = Set(try KernelTimers.read().entries).filter { entry in
                let hundreds = Double(entry.deadline - start) / 100e9
                return hundreds > 3.5 && hundreds < 10.5 && abs(hundreds - hundreds.rounded()) < 0.02
            }
            #expect(known.count >= 6)
            let isOver = Flag()
            let threads = try (1...8).map { number in
                try NoisyThread(number: number, until: isOver)
            }
            defer {
                isOver.set()
                for thread in threads { thread.wait() }
            }
            for _ in 0..<400 {
                let timers = try KernelTimers.read()
                #expect(known.isSubset(of: timers.entries))
                let gone = try timers.vanished(count: 0, before: Int64(MonotonicTime.now.nanoseconds))
                #expect(known.isDisjoint(with: gone))
            }
        }
    }

    @Test func theCallingThreadLeavesTheCPUWhenTheStopEnds() throws {
        try withVictim("ticking") { victim in
            let before = try CPUAffinity()
            let stopped = try StoppedProcess.stop(victim.pid, timeout: patience)
            #expect(try CPUAffinity().cpus.count == 1)
            stopped.leaveCPU()
            #expect(try CPUAffinity() == before)
            try stopped.letGo()
            try stopAndAsk(victim.pid)
            #expect(try CPUAffinity() == before)
        }
    }

    @Test func aProcessWhoseStopIsDroppedRunsOn() throws {
        try withVictim("ticking") { victim in
            do { _ = try StoppedProcess.stop(victim.pid, timeout: patience) }
            #expect(try ProcessStatus.read(victim.pid).tracer == 0)
            for _ in 0..<3 { #expect(try victim.readLine().hasPrefix("tick ")) }
        }
    }

    @Test func aProcessThatASignalHadStoppedStaysStopped() throws {
        try withVictim("ticking") { victim in
            victim.signal(SIGSTOP)
            try wait(for: "state T") { processState(victim.pid) == "T" }
            let stopped = try StoppedProcess.stop(victim.pid, timeout: patience)
            #expect(stopped.wasStoppedBySignal)
            try stopped.letGo()
            try wait(for: "state T") { processState(victim.pid) == "T" }
            victim.signal(SIGCONT)
            for _ in 0..<3 { #expect(try victim.readLine().isEmpty == false) }
        }
    }

    @Test func aProcessThatEndsWhileItIsStoppedIsLetGo() throws {
        try withVictim("ticking") { victim in
            let stopped = try StoppedProcess.stop(victim.pid, timeout: patience)
            victim.signal(SIGKILL)
            try stopped.letGo()
            #expect(try victim.waitForExit() == .signaled(SIGKILL))
        }
    }

    /// Stops a process, makes two calls in its first thread, and lets it go.
    private func stopAndAsk(_ pid: Int32) throws {
        let stopped = try StoppedProcess.stop(pid, timeout: patience)
        let leader = stopped.threads[0]
        #expect(leader.takesInjectedCalls)
        #expect(try stopped.injector.call(SYS_getpid, on: leader.tracee) == Int64(pid))
        #expect(try stopped.injector.call(SYS_gettid, on: leader.tracee) == Int64(pid))
        try stopped.letGo()
    }

    /// Waits until all threads sleep where they will stay: a thread that was let go sleeps now and then on its way back into its call.
    private func waitUntilAsleep(_ pid: Int32) throws {
        var before: [Int32: UInt64] = [:]
        try wait(for: "all threads to sleep") {
            var switches: [Int32: UInt64] = [:]
            for tid in try ProcFile.threads(of: pid) {
                guard try ProcessStat.read(pid, thread: tid).state == "S" else { return false }
                switches[tid] = try ProcessStatus.read(pid, thread: tid).voluntarySwitches ?? 0
            }
            defer { before = switches }
            return switches == before
        }
    }
}

/// Set once, by any thread.
private final class Flag: Sendable {
    private let value = Atomic(false)
    var isSet: Bool { value.load(ordering: .relaxed) }
    func set() { value.store(true, ordering: .relaxed) }
}

/// Sleeps for some tenths of a millisecond, again and again.
private final class NoisyThread {
    private let ended: EventDescriptor

    init(number: Int, until flag: Flag) throws {
        let ended = try EventDescriptor()
        self.ended = ended
        _ = try NamedThread("noise") {
            while !flag.isSet { usleep(UInt32(number) * 100) }
            ended.signal()
        }
    }

    func wait() {
        _ = try? ended.wait(until: .after(patience))
    }
}
