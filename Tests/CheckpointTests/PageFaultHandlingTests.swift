// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing

@testable import Checkpoint

/// The signs of a userfaultfd alone, for those that look at a process without moving it.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: looks into other processes"))
struct PageFaultHandlingTests {
    @Test(arguments: FaultHandlingProgram.all)
    func everySignOfAUserfaultfdIsNamedAndNothingElse(program: FaultHandlingProgram) throws {
        try program.run { running in
            let before = try ProcessSnapshot(of: running.pid)
            let findings = try PageFaultHandling.findings(of: running.pid)
            #expect(try ProcessSnapshot(of: running.pid).changes(since: before) == [])
            let signs = program.signs.intersection([.descriptor, .registration])
            #expect(Set(findings.map(\.kind.rawValue)) == Set(signs.map(\.rawValue)), "\(findings)")
            // The same words as those of an examination, which has more to say.
            let error = #expect(throws: CheckpointError.self) { try Examination.examine(pid: running.pid) }
            #expect(Set(findings).isSubset(of: error?.findings ?? []), "\(findings)")
        }
    }

    @Test func anOrdinaryProgramShowsNone() throws {
        try withProcess("/bin/sleep", ["1000"]) { process in
            let findings = try PageFaultHandling.findings(of: process.pid)
            #expect(findings.isEmpty, "\(findings)")
        }
    }

    @Test func noProcessIsNoAnswer() throws {
        // Above the kernel's largest pid.
        let error = #expect(throws: CheckpointError.self) { try PageFaultHandling.findings(of: 4_194_305) }
        #expect(error?.code == .noSuchProcess)
    }
}
