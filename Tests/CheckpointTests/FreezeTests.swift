// SPDX-License-Identifier: Apache-2.0
import Checkpoint
import ProcessImage
import TestSupport
import Testing

/// A freeze that ends in a thaw leaves no trace, and nobody inside notices.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: ptrace of other processes"))
struct FreezeTests {
    /// Parts of the victim whose threads, mappings and descriptors stay as they are.
    private static let steady = [
        "credentials", "settings", "identity", "heap", "anonymous", "sparse", "growsdown", "hidden", "guard", "locked",
        "advice", "huge", "private-file", "shared-file", "shared-memory", "memfd", "threads", "locks", "registers",
        "actions", "queue", "alternate-stack", "files", "devices", "pipes", "events",
    ]

    @Test func thawedVictimIsAsBefore() throws {
        let folder = try Scratch("thaw-steady")
        try withVictim("carried", [folder.path] + Self.steady) { victim in
            for round in 1...3 {
                let before = try ProcessSnapshot(of: victim.pid)
                let frozen = try freeze(victim.pid)
                #expect(processState(victim.pid) == "t")
                try frozen.thaw()
                let changes = try ProcessSnapshot(of: victim.pid).changes(since: before)
                #expect(changes == [], "\(changes.joined(separator: "\n"))")
                try writeFile(folder.file("round.\(round)"), "")
                try victim.waitForLine("round \(round) ok")
            }
            try writeFile(folder.file("go"), "")
            let last = try victim.output?.rest().last
            #expect(last == "ok carried", "\(last ?? "nothing")")
        }
    }

    @Test func nothingIsNoticedInAVictimWithEverything() throws {
        let folder = try Scratch("thaw-everything")
        try withVictim("everything", [folder.path]) { victim in
            for round in 1...3 {
                let frozen = try freeze(victim.pid)
                let description = frozen.description
                try frozen.thaw()
                #expect(description.threads.count > 10)
                let copy = try ArchiveDecoder.decode(
                    ProcessDescription.self,
                    from: try ArchiveEncoder.encode(description)
                )
                #expect(copy == description)
                check(description)
                try writeFile(folder.file("round.\(round)"), "")
                try victim.waitForLine("round \(round) ok")
            }
            try writeFile(folder.file("go"), "")
            let last = try victim.output?.rest().last
            #expect(last == "ok everything", "\(last ?? "nothing")")
        }
    }

    /// What the victim has of each kind is in its description.
    private func check(_ description: ProcessDescription) {
        let kinds = Set(description.files.descriptions.map(\.kind))
        #expect(
            kinds.isSuperset(of: [.path, .device, .pipe, .eventfd, .epoll, .timerfd, .signalfd, .memfd]),
            "\(kinds)"
        )
        #expect(description.files.pipes.contains { !$0.content.isEmpty && $0.capacity >= 4096 })
        #expect(description.files.descriptions.contains { !$0.watches.isEmpty })
        #expect(description.signals.actions.count == 64 && !description.signals.pending.isEmpty)
        #expect(!description.timers.posix.isEmpty && description.timers.interval.count == 3)
        #expect(description.memory.files.contains { !$0.buildID.isEmpty })
        #expect(description.memory.sharedObjects.contains { $0.kind == .memfd })
        #expect(description.memory.vdso.starts(with: [0x7f, 0x45, 0x4c, 0x46]))
        #expect(description.settings.limits.count == 32 && description.memory.layout.brk != 0)
        #expect(description.threads.allSatisfy { $0.registers.count == 27 && $0.extendedState.count > 512 })
        #expect(description.threads.allSatisfy { $0.clearChildTID != 0 && $0.rseqAddress != 0 })
    }

    private func freeze(_ pid: Int32) throws -> FrozenProcess {
        try FrozenProcess.freeze(try Examination.examine(pid: pid), timeout: .seconds(20))
    }
}
