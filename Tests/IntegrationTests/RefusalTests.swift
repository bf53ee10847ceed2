// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing

/// What cannot be carried is found before the process is altered, named with its remedy, and the process runs on.
@Suite(
    .serialized,
    .timeLimit(.minutes(2 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct RefusalTests {
    /// Every kind of `Victim kinds`, and a word that the message has to contain besides the number of the object.
    static let kinds: [(kind: String, word: String)] = [
        ("socket-tcp", "socket"), ("socket-listening", "socket"), ("socket-udp", "socket"), ("socket-unix", "socket"),
        ("socket-netlink", "socket"), ("io-uring", "io_uring"), ("aio", "[aio]"), ("inotify", "inotify"),
        ("fanotify", "fanotify"), ("perf", "perf"), ("bpf", "bpf"), ("kvm", "kvm"), ("device", "/dev/kmsg"),
        ("pidfd", "pidfd"), ("terminal", "pt"), ("message-queue", "victim-"), ("userfaultfd", "userfaultfd"),
        ("userfaultfd-elsewhere", "page fault"), ("child", "child"), ("zombie", "child"), ("traced", "trac"),
        ("pipe-outside", "fifo"), ("deleted-file", "deleted"), ("deleted-mapping", "deleted"), ("flock", "lock"),
        ("posix-lock", "lock"), ("description-lock", "lock"), ("lease", "lease"), ("hugetlb", "huge"),
        ("secretmem", "secret"), ("shm", "SYSV"), ("seccomp", "seccomp"), ("namespace-mnt", "mnt"),
        ("namespace-net", "net"), ("namespace-ipc", "ipc"), ("namespace-uts", "uts"), ("namespace-user", "user"),
        ("chroot", "root"), ("sealed", "mseal"), ("droppable", "MAP_DROPPABLE"), ("32-bit-program", "64-bit build"),
        ("32-bit-thread", "64-bit build"), ("syscall-dispatch", "system calls"), ("shadow-stack", "-SHSTK"),
        ("latin-file", "rename"), ("latin-mapping", "rename"), ("latin-directory", "rename"),
        ("shared-space", "execve"), ("shared-table", "CLONE_FILES"), ("thread-table", "unshare(CLONE_FILES)"),
        ("thread-directory", "unshare(CLONE_FS)"), ("thread-death-signal", "main thread"), ("no-exec-gain", "setting"),
        ("shared-file", "shared"), ("shared-memory", "end the other process"), ("shared-memfd", "memfd:shared"),
        ("epoll-watch", "epoll instance"), ("namespace-descriptor", "net:["), ("anonymous-inode", "fscontext"),
        ("device-mapping", "/dev/loop0"), ("deleted-shared-mapping", "deleted"), ("replaced-file", "restart"),
        ("replaced-mapping", "restart"),
    ]
    /// Kinds that only a stopped thread shows: the page server learns of them when a destination has come.
    private static let shownByStop: Set = ["32-bit-thread", "syscall-dispatch", "thread-death-signal", "no-exec-gain"]

    @Test func everyKindIsTried() throws {
        let all = try withProcess(BuiltProduct.victim, ["kinds"]) { try $0.output?.rest() ?? [] }
        #expect(Set(all) == Set(Self.kinds.map(\.kind)))
    }

    @Test(arguments: kinds)
    func processIsRefusedAndRunsOnUnchanged(kind: String, word: String) throws {
        let folder = try Scratch(kind)
        try withProcess(BuiltProduct.victim, ["refused", folder.path, kind]) { victim in
            var pid = victim.pid
            var objects: [String] = []
            while true {
                let line = try victim.readLine()
                if line == "ready" { break }
                if line.hasPrefix("skip ") {
                    Issue.record("not tried on this machine: \(line.dropFirst(5))", severity: .warning)
                    return
                }
                if line.hasPrefix("object ") { objects.append(String(line.dropFirst(7))) }
                if line.hasPrefix("victim ") { pid = Int32(line.dropFirst(7)) ?? pid }
            }
            let words = objects + [word]
            if Self.shownByStop.contains(kind) {
                try expectRefusalAtFreeze(of: pid, naming: words)
                try expectRefusalAtFreeze(of: pid, naming: words, Move.Options(preCopies: true))
            } else {
                try expectRefusal(of: pid, naming: words)
            }
            try writeFile(folder.file("go"), "")
            #expect(try victim.readLine() == "ok \(kind)")
        }
    }

    @Test func processWhoseFirstThreadEndedIsRefused() throws {
        let folder = try Scratch("leader-ended")
        try withVictim("leader-ended", [folder.path]) { victim in
            try wait(for: "the first thread to end") { processState(victim.pid) == "Z" }
            let server = try Move.startServer(victim.pid)
            #expect(try server.waitForExit() == .exited(78), "\(server.report())")
            try writeFile(folder.file("go"), "")
            #expect(try victim.readLine() == "ok leader-ended")
        }
    }

    @Test func allFindingsComeInOneGo() throws {
        let folder = try Scratch("several")
        try withProcess(BuiltProduct.victim, ["refused", folder.path, "inotify", "socket-unix", "flock"]) { victim in
            try victim.waitForLine("ready")
            try expectRefusal(of: victim.pid, naming: ["inotify", "socket", "lock"])
            try writeFile(folder.file("go"), "")
            #expect(try victim.readLine() == "ok inotify,socket-unix,flock")
        }
    }

    /// The page server listens, for nothing was to be seen; when a destination comes both sides say why it is refused.
    private func expectRefusalAtFreeze(
        of pid: Int32,
        naming words: [String],
        _ options: Move.Options = .init()
    ) throws {
        let before = try ProcessSnapshot(of: pid)
        let move = try Move(of: pid, options)
        try move.serverEvents.finish()
        try move.restorerEvents.finish()
        #expect(try move.server.waitForExit() == .exited(78), "\(move.server.report())")
        #expect(try move.restorer.waitForExit() == .exited(78), "\(move.restorer.report())")
        for word in words {
            #expect(move.server.errors.contains(word), "'\(word)' is not in: \(move.server.errors)")
            #expect(move.restorer.errors.contains(word), "'\(word)' is not in: \(move.restorer.errors)")
        }
        #expect(move.serverEvents.first("failed")?["code"]?.integer == 78)
        #expect(move.restorerEvents.first("failed")?["code"]?.integer == 78)
        try waitUntilUnchanged(pid, since: before)
    }

    private func expectRefusal(of pid: Int32, naming words: [String]) throws {
        let before = try ProcessSnapshot(of: pid)
        let server = try Move.startServer(pid)
        let events = StatusEvents(of: server)
        try events.finish()
        #expect(try server.waitForExit() == .exited(78), "\(events.names) \(server.report())")
        for word in words {
            #expect(server.errors.contains(word), "'\(word)' is not in: \(server.errors)")
        }
        #expect(events.first("failed")?["code"]?.integer == 78)
        #expect(try ProcessSnapshot(of: pid).changes(since: before) == [])
    }
}
