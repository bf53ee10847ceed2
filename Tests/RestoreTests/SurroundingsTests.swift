// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxSystem
import ProcessImage
import ProcessTrace
import Restore
import TestSupport
import Testing

/// Where the copy lives and what becomes of it, whatever it does.
@Suite(
    .serialized,
    .timeLimit(.minutes(5)),
    .enabled(if: Machine.isRoot, "needs root: makes processes with chosen ids")
)
struct SurroundingsTests {
    @Test func aTakenIDNamesItsHolder() throws {
        try withMovedVictim(["heap"]) { moved in
            let error = #expect(throws: RestoreError.self) { try moved.move(newPIDNamespace: false) }
            #expect(error?.code == .refused)
            #expect(error?.message.contains("the id \(moved.victim.pid) is taken") == true)
            #expect(error?.message.contains("carried") == true)
        }
    }

    @Test func withoutANamespaceTheOriginalIDsAreTaken() throws {
        try withMovedVictim(["threads"], allEager: true) { moved in
            moved.source.kill()
            moved.victim.end()
            try moved.move(newPIDNamespace: false)
            #expect(moved.watcher?.pid == moved.victim.pid)
            try moved.runToTheEnd()
            #expect(moved.text.contains("\nok "), "\(moved.text)")
            #expect(moved.status == .exited(0))
        }
    }

    @Test(arguments: [(0, 0), (1, 1), (7, 7), (7, 9), (0, 9)] as [(Int32, Int32)])
    func sessionAndGroupAreAsRecorded(session: Int32, group: Int32) throws {
        try withMovedVictim(["heap"]) { moved in
            try moved.move { description in
                description.identity.session = session
                description.identity.processGroup = group
            }
            let status = try ProcessStatus.read(try #require(moved.watcher).pid)
            #expect(status.namespaceSessions.last == session)
            #expect(status.namespaceProcessGroups.last == group)
            #expect(status.namespacePIDs.last == moved.victim.pid)
            try moved.runToTheEnd()
            #expect(moved.status == .exited(0))
        }
    }

    @Test func theClocksDoNotGoBackwards() throws {
        try withMovedVictim(["heap", "identity"]) { moved in
            let ahead: Int64 = 5_000_000_000_000
            try moved.move { $0.machine.monotonicClock = KernelClock.nanoseconds(KernelClock.monotonic) + ahead }
            let pid = try #require(moved.watcher).pid
            let offsets = String(decoding: try FileReading.read("/proc/\(pid)/timens_offsets"), as: UTF8.self)
            let seconds = offsets.split(separator: "\n").first?.split(separator: " ").dropFirst().first
            #expect((4990...5000).contains(Int(seconds ?? "") ?? 0), "\(offsets)")
            try moved.runToTheEnd()
            #expect(moved.text.contains("\nok "), "\(moved.text)")
        }
    }

    @Test(arguments: [true, false])
    func aSignalThatEndsTheCopyIsReported(newPIDNamespace: Bool) throws {
        try withMovedVictim(["heap"], allEager: true) { moved in
            if !newPIDNamespace {
                moved.source.kill()
                moved.victim.end()
            }
            try moved.move(newPIDNamespace: newPIDNamespace)
            kill(try #require(moved.watcher).pid, SIGKILL)
            try moved.waitForEnd()
            #expect(moved.status == .signalled(.init(rawValue: SIGKILL), coreDumped: false))
        }
    }

    @Test(arguments: [true, false])
    func destroyingLeavesNothing(finished: Bool) throws {
        try withMovedVictim(["threads"]) { moved in
            let partial = try moved.build()
            let pid = partial.pid
            let initPID = try ProcessStat.read(pid).parent
            #expect(fileExists("/proc/\(pid)") && initPID != getpid())
            if finished { try partial.finish() }
            partial.destroy()
            #expect(!fileExists("/proc/\(pid)"))
            #expect(!fileExists("/proc/\(initPID)"))
        }
    }
}
