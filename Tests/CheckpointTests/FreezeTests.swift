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
                #expect(frozen.description.threads.count > 10)
                try frozen.thaw()
                try writeFile(folder.file("round.\(round)"), "")
                try victim.waitForLine("round \(round) ok")
            }
            try writeFile(folder.file("go"), "")
            let last = try victim.output?.rest().last
            #expect(last == "ok everything", "\(last ?? "nothing")")
        }
    }

    private func freeze(_ pid: Int32) throws -> FrozenProcess {
        try FrozenProcess.freeze(try Examination.examine(pid: pid), timeout: .seconds(20))
    }
}
