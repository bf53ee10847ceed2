// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing

/// The comparison that other tests trust must see a change, and must see none where there is none.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct ProcessSnapshotTests {
    @Test func undisturbedProcessDoesNotDiffer() throws {
        try withProcess("/bin/sleep", ["1000"]) { process in
            try wait(for: "sleep to sleep") { try readText("/proc/\(process.pid)/comm") == "sleep\n" }
            try wait(for: "sleep to be in its call") { processState(process.pid) == "S" }
            let before = try ProcessSnapshot(of: process.pid)
            let after = try ProcessSnapshot(of: process.pid)
            #expect(after.changes(since: before) == [])
        }
    }

    @Test func stoppedProcessDiffers() throws {
        try withProcess("/bin/sleep", ["1000"]) { process in
            try wait(for: "sleep to be in its call") { processState(process.pid) == "S" }
            let before = try ProcessSnapshot(of: process.pid)
            process.signal(19)
            try wait(for: "the stop") { processState(process.pid) == "T" }
            let changes = try ProcessSnapshot(of: process.pid).changes(since: before)
            #expect(changes.contains { $0.contains("State: T") })
        }
    }

    /// What the victim changes of itself, and a word of the line that shows it.
    static let changes: [(command: String, word: String)] = [
        ("map", "mapping"), ("protect", "mapping"), ("advise", "flags"), ("open", "/dev/null"), ("seek", "pos: 17"),
        ("flag", "flags"), ("block", "SigBlk"), ("pend", "Pnd"), ("handle", "SigIgn"), ("register", "userfaultfd"),
        ("name", "renamed"), ("umask", "Umask"), ("timer", "timer"),
    ]

    @Test func everyKindOfChangeIsSeen() throws {
        try withVictim("changing", options: .init(input: .pipe)) { victim in
            var before = try ProcessSnapshot(of: victim.pid)
            for (command, word) in Self.changes {
                try victim.input?.write("\(command)\n")
                try victim.waitForLine("changed \(command)")
                let now = try ProcessSnapshot(of: victim.pid)
                let changes = now.changes(since: before)
                #expect(changes.contains { $0.contains(word) }, "\(command) shows as \(changes)")
                before = now
            }
        }
    }
}
