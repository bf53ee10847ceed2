// SPDX-License-Identifier: Apache-2.0
import Checkpoint
import TestSupport
import Testing

/// Each kind of thing that cannot be carried, in a process of its own that goes on undisturbed after the refusal.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: looks into other processes"))
struct RefusalTests {
    /// The row that refuses each kind of victim.
    private static let rows: [String: RefusedObject] = [
        "socket-tcp": .socket, "socket-listening": .socket, "socket-udp": .socket, "socket-unix": .socket,
        "socket-netlink": .socket, "io-uring": .ioUring, "inotify": .fileNotification, "fanotify": .fileNotification,
        "perf": .performanceCounter, "bpf": .bpf,
        "aio": .asynchronousIO, "kvm": .kvm, "device": .device, "pidfd": .pidfd,
        "terminal": .device, "message-queue": .messageQueue, "userfaultfd": .userfaultfd,
        "userfaultfd-elsewhere": .foreignUserfaultfd, "child": .children, "zombie": .children, "traced": .tracer,
        "pipe-outside": .sharedPipe, "deleted-file": .deletedFile, "deleted-mapping": .deletedFile,
        "flock": .fileLock, "posix-lock": .fileLock, "description-lock": .fileLock, "lease": .lease,
        "hugetlb": .hugePages, "secretmem": .secretMemory, "shm": .systemVMemory, "seccomp": .seccomp,
        "namespace-mnt": .namespace, "namespace-net": .namespace, "namespace-ipc": .namespace,
        "namespace-uts": .namespace, "namespace-user": .namespace, "chroot": .changedRoot,
        "sealed": .sealedMapping, "droppable": .droppableMapping, "32-bit-program": .thirtyTwoBit,
        "32-bit-thread": .thirtyTwoBit, "syscall-dispatch": .systemCallDispatch, "shadow-stack": .shadowStack,
        "latin-file": .pathEncoding, "latin-mapping": .pathEncoding, "latin-directory": .pathEncoding,
        "shared-space": .sharedMemorySpace, "shared-table": .sharedDescriptorTable,
        "thread-table": .threadDescriptorTable, "thread-directory": .threadDescriptorTable,
        "thread-death-signal": .parentDeathSignal, "no-exec-gain": .processControl, "shared-file": .sharedFile,
        "shared-memory": .sharedMemory, "shared-memfd": .sharedMemory, "epoll-watch": .epollWatch,
        "namespace-descriptor": .namespaceDescriptor, "anonymous-inode": .anonymousInode,
        "device-mapping": .deviceMapping,
        "deleted-shared-mapping": .deletedFile, "replaced-file": .replacedFile, "replaced-mapping": .replacedFile,
    ]
    /// Kinds that only a stopped thread shows, so that the freeze finds them.
    private static let shownByStop: Set = ["32-bit-thread", "syscall-dispatch", "thread-death-signal", "no-exec-gain"]

    static let kinds: [String] = {
        (try? withProcess(BuiltProduct.victim, ["kinds"]) { try $0.output?.rest() }) ?? []
    }()

    @Test(arguments: kinds)
    func aKindThatCannotBeCarriedIsRefusedByName(kind: String) throws {
        let folder = try Scratch("refused-\(kind)")
        try withProcess(BuiltProduct.victim, ["refused", folder.path, kind]) { victim in
            guard let (pid, objects) = try beginning(of: victim) else { return }
            let before = try ProcessSnapshot(of: pid)
            let error = try refusal(of: pid, shownByStop: Self.shownByStop.contains(kind))
            #expect(try ProcessSnapshot(of: pid).changes(since: before) == [])
            #expect(error?.code == .refused, "\(String(describing: error))")
            let findings = error?.findings ?? []
            let row = Self.rows[kind]
            #expect(row != nil && findings.contains { $0.kind == row }, "\(findings)")
            // One remedy for one object.
            #expect(Set(findings.map(\.object)).count == findings.count, "\(findings)")
            for object in objects {
                #expect(findings.contains { $0.object.contains(object) }, "\(object) is not in \(findings)")
            }
            try goOn(victim, folder, kind)
        }
    }

    @Test func allFindingsComeInOneGo() throws {
        let folder = try Scratch("refused-several")
        let kinds = ["inotify", "flock", "child", "pidfd"]
        try withProcess(BuiltProduct.victim, ["refused", folder.path] + kinds) { victim in
            _ = try beginning(of: victim)
            let error = #expect(throws: CheckpointError.self) { try Examination.examine(pid: victim.pid) }
            let found = Set(error?.findings.map(\.kind) ?? [])
            #expect(found.isSuperset(of: [.fileNotification, .fileLock, .children, .pidfd]), "\(found)")
            try goOn(victim, folder, kinds.joined(separator: ","))
        }
    }

    @Test func aMountNamespaceWithEqualMountsIsNotForeign() throws {
        try withVictim("equal-mounts", options: .init(input: .pipe)) { victim in
            #expect(try readLink("/proc/\(victim.pid)/ns/mnt") != readLink("/proc/self/ns/mnt"))
            // The standard input is a pipe to this test, which is a standard stream and no finding.
            let examination = try Examination.examine(pid: victim.pid)
            #expect(examination.commandLine.hasSuffix("Victim equal-mounts"))
        }
    }

    /// So that no row is there for which nobody has seen a process refused.
    @Test func everyRowButTheseHasALiveVictim() {
        #expect(Set(Self.kinds) == Set(Self.rows.keys))
        let without = Set(RefusedObject.allCases).subtracting(Self.rows.values)
        // A thread is met in a call that nobody knows, and a mapping of a kind that no kernel had when this was written.
        #expect(without == [.uninterruptibleCall, .unknownMapping])
    }

    @Test func everyFindingNamesARemedy() {
        for kind in RefusedObject.allCases {
            #expect(!kind.name.isEmpty && !kind.reason.isEmpty && !kind.remedy.isEmpty && !kind.recognition.isEmpty)
        }
    }

    @Test func aProcessThatIsNotThereIsSaidToBeMissing() throws {
        let error = #expect(throws: CheckpointError.self) { try Examination.examine(pid: 0x3fff_fff0) }
        #expect(error?.code == .noSuchProcess)
    }

    @Test func aProcessWithoutItsFirstThreadIsTurnedAway() throws {
        let folder = try Scratch("leader-ended")
        try withVictim("leader-ended", [folder.path]) { victim in
            try wait(for: "the end of the first thread") { processState(victim.pid) == "Z" }
            let error = #expect(throws: CheckpointError.self) { try Examination.examine(pid: victim.pid) }
            #expect(error?.code == .refused, "\(String(describing: error))")
            try writeFile(folder.file("go"), "")
            try victim.waitForLine("ok leader-ended")
        }
    }

    /// How the examination or, where it finds nothing, the freeze refuses a process.
    private func refusal(of pid: Int32, shownByStop: Bool) throws -> CheckpointError? {
        guard shownByStop else {
            return #expect(throws: CheckpointError.self) { try Examination.examine(pid: pid) }
        }
        let examination = try Examination.examine(pid: pid)
        return #expect(throws: CheckpointError.self) {
            try FrozenProcess.freeze(examination, timeout: .seconds(20))
        }
    }

    /// The process in question, and what the victim says that a message has to name; nil when the machine lacks the kind.
    private func beginning(of victim: TestProcess) throws -> (pid: Int32, objects: [String])? {
        var pid = victim.pid
        var objects: [String] = []
        while let line = try victim.output?.next() {
            if line.hasPrefix("object ") { objects.append(String(line.dropFirst("object ".count))) }
            if line.hasPrefix("skip ") {
                let reason = line.dropFirst("skip ".count)
                Issue.record("not tried on this machine: \(reason)", severity: .warning)
                return nil
            }
            if line.hasPrefix("victim ") { pid = Int32(line.dropFirst("victim ".count)) ?? pid }
            if line == "ready" || line.hasPrefix("ready ") { return (pid, objects) }
        }
        throw TestFailure("the victim ended: \(victim.report())")
    }

    private func goOn(_ victim: TestProcess, _ folder: Scratch, _ name: String) throws {
        try writeFile(folder.file("go"), "")
        let last = try victim.output?.rest().last
        #expect(last == "ok \(name)", "\(last ?? "nothing")")
    }
}
