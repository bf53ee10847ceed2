// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import TestSupport
internal import Testing

/// Programs that handle page faults themselves go on doing so when a tracker has come to the memory that is registered, and gone.
///
/// What has nothing registered is not the tracker's affair: who tracks a process has examined it before.
@Suite(.serialized, .timeLimit(.minutes(2)), .enabled(if: Machine.isRoot, "needs root: userfaultfd of other processes"))
struct OwnUserfaultfdTests {
    static let registered = FaultHandlingProgram.all.filter { $0.signs.contains(.registration) }
    /// Those of which the tracker of a move sees the registration, too: it leaves shared memory alone.
    static let anonymous = registered.filter { !$0.words.hasPrefix("minor") }

    @Test(arguments: registered)
    func everyRegistrationIsRefusedUnharmed(program: FaultHandlingProgram) throws {
        try expectRefusal(of: program, .writeProtectAsync, .all)
    }

    @Test(arguments: anonymous)
    func everyRegistrationIsRefusedUnharmedBeforeAMove(program: FaultHandlingProgram) throws {
        try expectRefusal(of: program, .writeProtectAsync, .privateAnonymous)
        try expectRefusal(of: program, .writeProtectSync, .privateAnonymous)
    }

    private func expectRefusal(
        of program: FaultHandlingProgram,
        _ strategy: TrackerStrategy,
        _ scope: TrackingScope
    ) throws {
        try program.run { running in
            let before = try ProcessSnapshot(of: running.pid)
            let error = #expect(throws: TrackingError.self) { try begin(running, strategy, scope) }
            #expect(try ProcessSnapshot(of: running.pid).changes(since: before) == [])
            #expect(error?.code == .refused, "\(String(describing: error))")
            let address = running.objects.last ?? "no address"
            #expect(error?.message.contains(address) ?? false, "\(address): \(String(describing: error))")
        }
    }

    private func begin(
        _ running: FaultHandlingProgram.Running,
        _ strategy: TrackerStrategy,
        _ scope: TrackingScope
    ) throws -> WriteTracker {
        try WriteTracker.begin(running.pid, strategy: strategy, scope: scope, timeout: patience)
    }
}
