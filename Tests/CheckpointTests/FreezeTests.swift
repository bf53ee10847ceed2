// SPDX-License-Identifier: Apache-2.0
import Checkpoint
import ProcessImage
import TestSupport
import Testing

/// A freeze that ends in a thaw leaves no trace, and nobody inside notices.
@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: Machine.isRoot, "needs root: ptrace of other processes"))
struct FreezeTests {
    @Test func thawedVictimWithEverythingIsAsBefore() throws {
        let folder = try Scratch("thaw-everything")
        try withVictim("everything", [folder.path]) { victim in
            let before = try ProcessSnapshot(of: victim.pid)
            for round in 1...5 {
                let frozen = try FrozenProcess.freeze(try Examination.examine(pid: victim.pid), timeout: .seconds(20))
                #expect(processState(victim.pid) == "t")
                #expect(!frozen.description.threads.isEmpty)
                try frozen.thaw()
                try writeFile(folder.file("round.\(round)"), "")
                try victim.waitForLine("round \(round) ok")
                #expect(try ProcessSnapshot(of: victim.pid).changes(since: before) == [])
            }
            try writeFile(folder.file("go"), "")
            let last = try victim.output?.rest().last
            #expect(last == "ok everything", "\(last ?? "nothing")")
        }
    }
}
