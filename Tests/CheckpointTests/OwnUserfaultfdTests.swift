// SPDX-License-Identifier: Apache-2.0
import DirtyTracking
import TestSupport
import Testing

@testable import Checkpoint

/// Programs that handle page faults themselves are found wherever the userfaultfd is, and go on handling them.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: looks into other processes"))
struct OwnUserfaultfdTests {
    @Test(arguments: FaultHandlingProgram.all)
    func examinationNamesEverySign(program: FaultHandlingProgram) throws {
        try program.run { running in
            let before = try ProcessSnapshot(of: running.pid)
            let error = #expect(throws: CheckpointError.self) { try Examination.examine(pid: running.pid) }
            #expect(try ProcessSnapshot(of: running.pid).changes(since: before) == [])
            expect(error, program, running)
        }
    }

    @Test(arguments: FaultHandlingProgram.late)
    func freezeFindsWhatWasRegisteredAfterTheExamination(program: FaultHandlingProgram) throws {
        try program.run { running in
            var running = running
            let examination = try Examination.examine(pid: running.pid)
            try running.register()
            let before = try ProcessSnapshot(of: running.pid)
            let error = #expect(throws: CheckpointError.self) {
                try FrozenProcess.freeze(examination, timeout: .seconds(20))
            }
            #expect(try ProcessSnapshot(of: running.pid).changes(since: before) == [])
            expect(error, program, running)
        }
    }

    /// A large process has its VmFlags taken from the look before the freeze: a monitor that registers its memory between the two
    /// is found by a registration of our own, below the vDSO and above, and behind a mapping that nobody can register.
    @Test(arguments: ["missing", "wp", "async", "missing,behind", "missing,high"])
    func registrationBetweenTheLastLookAndTheFreezeIsFound(words: String) throws {
        let program = FaultHandlingProgram("\(words),later,passed,large", .registration)
        try program.run { running in
            var running = running
            var examination = try Examination.examine(pid: running.pid)
            try examination.refresh()
            try running.register()
            let before = try ProcessSnapshot(of: running.pid)
            let error = #expect(throws: CheckpointError.self) {
                try FrozenProcess.freeze(examination.pid, examination.cache, .seconds(20))
            }
            #expect(try ProcessSnapshot(of: running.pid).changes(since: before) == [])
            expect(error, program, running)
        }
    }

    /// The trial finds nothing where nothing is registered, and leaves nothing.
    @Test(arguments: ["none,passed,large", "none,passed,large,behind", "none,passed,large,high"])
    func monitorWithoutRegistrationIsNoReasonToRefuse(words: String) throws {
        let program = FaultHandlingProgram(words)
        try program.run { running in
            let before = try ProcessSnapshot(of: running.pid)
            let frozen = try FrozenProcess.freeze(try Examination.examine(pid: running.pid), timeout: .seconds(20))
            try frozen.thaw()
            #expect(try ProcessSnapshot(of: running.pid).changes(since: before) == [])
        }
    }

    /// While this program tracks the process the trial is the tracker's, or smaps is read where it cannot tell.
    @Test(arguments: [TrackerStrategy.writeProtectAsync, .writeProtectSync])
    func trackedProcessIsFrozenUnlessAMonitorHasRegisteredMemory(strategy: TrackerStrategy) throws {
        // Shared memory, as what is tracked cannot be registered by anybody else.
        let program = FaultHandlingProgram("minor,later,passed,large", .registration)
        try program.run { running in
            var running = running
            let untracked = try ProcessSnapshot(of: running.pid)
            var examination = try Examination.examine(pid: running.pid)
            let tracker = try WriteTracker.begin(
                running.pid,
                strategy: strategy,
                scope: .privateAnonymous,
                timeout: patience
            )
            examination.isTracked(
                by: TrackerRegistrations(owns: { tracker.owns($0) }, areContested: { tracker.contests($0) })
            )
            _ = try tracker.round()
            let before = try ProcessSnapshot(of: running.pid)
            try FrozenProcess.freeze(examination, timeout: .seconds(20)).thaw()
            #expect(try ProcessSnapshot(of: running.pid).changes(since: before) == [])

            try examination.refresh()
            try running.register()
            let error = #expect(throws: CheckpointError.self) {
                try FrozenProcess.freeze(examination.pid, examination.cache, .seconds(20))
            }
            expect(error, program, running)
            tracker.end()
            let changes = try ProcessSnapshot(of: running.pid).changes(since: untracked)
            #expect(changes.allSatisfy { $0.contains(running.objects.last ?? "nothing") }, "\(changes)")
        }
    }

    private func expect(
        _ error: CheckpointError?,
        _ program: FaultHandlingProgram,
        _ running: FaultHandlingProgram.Running
    ) {
        let findings = error?.findings ?? []
        #expect(error?.code == .refused, "\(String(describing: error))")
        #expect(Set(findings.map(\.kind.rawValue)) == Set(program.signs.map(\.rawValue)), "\(findings)")
        for object in running.objects {
            #expect(findings.contains { $0.object.contains(object) }, "\(object) is not in \(findings)")
        }
    }
}
