// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxSystem
import ProcessTrace
import Restore
import TestSupport
import Testing

@Suite(
    .serialized,
    .timeLimit(.minutes(5)),
    .enabled(if: Machine.isRoot, "needs root: makes processes with chosen ids")
)
struct MoveTests {
    @Test(arguments: [
        "heap", "anonymous", "sparse", "growsdown", "hidden", "guard", "locked", "advice", "huge",
        "private-file", "shared-file", "shared-memory", "memfd",
        "threads", "locks", "registers", "stack",
        "queue", "handler", "alternate-stack",
        "itimers", "posix-timers",
        "files", "devices", "pipes",
        "calls", "ipc-calls",
        "credentials", "strict", "settings", "identity",
    ])
    func aMovedPartIsAsBefore(part: String) throws {
        try withMovedVictim([part]) { moved in
            try moved.move()
            try moved.runToTheEnd()
            #expect(moved.text.contains("\nok "), "\(moved.text) \(moved.victim.errors)")
            #expect(moved.status == .exited(0))
        }
    }

    @Test func partsTogetherAreAsBefore() throws {
        let parts = [
            "credentials", "settings", "identity", "heap", "anonymous", "guard", "locked", "private-file",
            "shared-file",
            "shared-memory", "memfd", "threads", "locks", "registers", "queue", "handler", "alternate-stack", "itimers",
            "posix-timers", "files", "devices", "pipes",
        ]
        try withMovedVictim(parts) { moved in
            try moved.move()
            try moved.runToTheEnd()
            #expect(moved.text.contains("\nok "), "\(moved.text) \(moved.victim.errors)")
            #expect(moved.status == .exited(0))
        }
    }
}
