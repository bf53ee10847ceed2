// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// What `thaw track` does not do, why, and that the process does not notice.
@Suite(
    .serialized,
    .timeLimit(.minutes(4 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct TrackRefusalTests {
    /// Shown by a descriptor or a registration. One that waits in a socket, or only could be made, is not seen.
    private static func shows(_ program: FaultHandlingProgram) -> Bool {
        program.signs.contains(.descriptor) || program.signs.contains(.registration)
    }

    @Test(arguments: FaultHandlingProgram.all.filter(shows))
    func programsThatHandlePageFaultsAreRefused(program: FaultHandlingProgram) throws {
        try program.run { running in
            let before = try ProcessSnapshot(of: running.pid)
            let run = try track(running.pid)
            #expect(run.ending == .exited(78), "\(run)")
            #expect(run.output.isEmpty)
            let signs: [FaultHandlingProgram.Sign: String] = [
                .descriptor: "close the userfaultfd before the move",
                .registration: "let its page fault handler unregister the range",
            ]
            for (sign, remedy) in signs where program.signs.contains(sign) {
                #expect(run.errors.contains(remedy), "\(program): \(run.errors)")
            }
            #expect(try track(running.pid, ["--tracker", "none"]).ending == .exited(0))
            #expect(running.objects.contains { run.errors.contains($0) }, "\(running.objects): \(run.errors)")
            #expect(try ProcessSnapshot(of: running.pid).changes(since: before) == [])
        }
    }

    @Test(arguments: FaultHandlingProgram.all.filter { !shows($0) })
    func whatCannotBeSeenDoesNotHinder(program: FaultHandlingProgram) throws {
        try program.run { running in
            let before = try ProcessSnapshot(of: running.pid)
            #expect(try track(running.pid).ending == .exited(0))
            #expect(try ProcessSnapshot(of: running.pid).changes(since: before) == [])
        }
    }

    @Test func aRegistrationBetweenRoundsIsExitCode78() throws {
        let options = TestProcess.Options(input: .pipe)
        try withProcess(BuiltProduct.victim, ["tracked-commands"], options: options) { victim in
            try victim.waitForLine("ready")
            let tracking = try Tracking(of: victim.pid, ["--interval", "1"])
            try tracking.wait(for: "round")
            // What the tracker has seen the program cannot register any more; that is tried until it comes before the tracker.
            var place = ""
            try wait(for: "a registration by the program") {
                try victim.input?.write("map 10 0\n")
                place = try victim.readLine()
                // UFFDIO_REGISTER_MODE_MISSING
                try victim.input?.write("register \(place) 10 1 0\n")
                return try victim.readLine() == "0"
            }
            let before = try ProcessSnapshot(of: victim.pid)
            #expect(try tracking.finish() == .exited(78), "\(tracking.command.report())")
            #expect(tracking.end?["reason"]?.string == "failure")
            #expect(tracking.command.errors.contains(place), "\(tracking.command.errors)")
            // Only what the tracker has added is gone.
            let changes = try ProcessSnapshot(of: victim.pid).changes(since: before)
            #expect(changes.filter { $0.hasPrefix("+") }.allSatisfy { !$0.contains(" uw") })
            #expect(try readText("/proc/\(victim.pid)/smaps").contains(" um"))
        }
    }

    @Test func aSecondTrackerIsRefused() throws {
        try withVictim("paced") { victim in
            let first = try Tracking(of: victim.pid, ["--interval", "0.1"])
            try first.wait(for: "round")
            let run = try track(victim.pid)
            #expect(run.ending == .exited(78), "\(run)")
            try first.wait(for: "round")
            first.command.signal(SIGINT)
            #expect(try first.finish() == .exited(0))
        }
    }

    @Test func anotherTracerIsRefusedByName() throws {
        let folder = try Scratch("traced")
        try withProcess(BuiltProduct.victim, ["refused", folder.path, "traced"]) { victim in
            try victim.waitForLine("ready")
            let run = try track(victim.pid)
            #expect(run.ending == .exited(78) && run.errors.contains("tracer"), "\(run)")
            try writeFile(folder.file("go"), "")
            #expect(try victim.readLine() == "ok traced")
        }
    }

    /// Sockets, children, locks: what cannot be moved can be tracked all the same.
    @Test func aProcessThatCannotBeMovedIsTracked() throws {
        let folder = try Scratch("several")
        let kinds = ["inotify", "socket-unix", "flock", "child"]
        try withProcess(BuiltProduct.victim, ["refused", folder.path] + kinds) { victim in
            try victim.waitForLine("ready")
            let before = try ProcessSnapshot(of: victim.pid)
            let run = try track(victim.pid)
            #expect(run.ending == .exited(0), "\(run)")
            #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
            try writeFile(folder.file("go"), "")
            #expect(try victim.readLine() == "ok \(kinds.joined(separator: ","))")
        }
    }

    /// A call of the tracker goes where it does no harm: to a thread that can make it, past filters, or nowhere.
    @Test(arguments: [
        ("32-bit-program", 78), ("32-bit-thread", 0), ("syscall-dispatch", 0), ("seccomp", 0), ("sealed", 0),
    ])
    func modesOfThreadsAreNotDisturbed(kind: String, status: Int32) throws {
        let folder = try Scratch(kind)
        try withProcess(BuiltProduct.victim, ["refused", folder.path, kind]) { victim in
            try victim.waitForLine("ready")
            let before = try ProcessSnapshot(of: victim.pid)
            let run = try track(victim.pid)
            #expect(run.ending == .exited(status), "\(run)")
            try waitUntilUnchanged(victim.pid, since: before)
            try writeFile(folder.file("go"), "")
            #expect(try victim.readLine() == "ok \(kind)")
        }
    }

    @Test func whatIsNoProcessIsExitCode66() throws {
        // Above the kernel's largest pid.
        let none = try track(4_194_305)
        #expect(none.ending == .exited(66) && none.errors.contains("there is no process 4194305"), "\(none)")
        let options = TestProcess.Options(input: .pipe)
        try withProcess(BuiltProduct.victim, ["tracked-writers", "1", "1"], options: options) { victim in
            try victim.waitForLine("ready")
            let tid = try #require(try namesInFolder("/proc/\(victim.pid)/task").compactMap { Int32($0) }.max())
            let thread = try track(tid)
            #expect(thread.ending == .exited(66) && thread.errors.contains("use -t \(victim.pid)"), "\(thread)")
        }
        // kthreadd, where the pid namespace is the first one.
        guard (try? readText("/proc/2/comm")) == "kthreadd\n" else { return }
        let kernel = try track(2)
        #expect(kernel.ending == .exited(66) && kernel.errors.contains("thread of the kernel"), "\(kernel)")
    }

    @Test func aProcessOfAnotherUserIsExitCode77() throws {
        try withVictim("paced") { victim in
            let run = try runToEnd(
                "/usr/bin/setpriv",
                unprivileged + [BuiltProduct.thaw, "track", "-t", "\(victim.pid)"]
            )
            #expect(run.ending == .exited(77), "\(run)")
            #expect(run.errors.contains("process \(victim.pid)") && run.errors.contains("root"), "\(run)")
        }
    }

    /// Nothing is ever served, so what an unprivileged process may have is enough.
    @Test func aProcessOfTheSameUserNeedsNoRoot() throws {
        try withProcess("/usr/bin/setpriv", unprivileged + [BuiltProduct.victim, "paced"]) { victim in
            try victim.waitForLine("ready")
            let words = ["track", "-t", "\(victim.pid)", "--interval", "0.1", "--rounds", "2"]
            let run = try runToEnd("/usr/bin/setpriv", unprivileged + [BuiltProduct.thaw] + words)
            #expect(run.ending == .exited(0), "\(run)")
        }
    }

    @Test func aTrackerThatIsNotThereIsExitCode69() throws {
        try withVictim("paced") { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            let run = try track(victim.pid, ["--tracker", "soft-dirty"])
            guard run.ending != .exited(0) else {
                Issue.record("not tried: this kernel has soft-dirty bits", severity: .warning)
                return
            }
            #expect(run.ending == .exited(69), "\(run)")
            #expect(run.errors.contains("soft-dirty") && run.errors.contains("wp-async"), "\(run)")
            #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
        }
    }

    private let unprivileged = ["--reuid=1000", "--regid=1000", "--clear-groups"]

    private func track(
        _ pid: Int32,
        _ arguments: [String] = []
    ) throws -> (output: String, errors: String, ending: Ending) {
        let words = ["track", "-t", "\(pid)", "--interval", "0.05", "--rounds", "2"]
        return try runToEnd(BuiltProduct.thaw, words + arguments)
    }
}
