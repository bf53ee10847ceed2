// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing

/// Programs that handle page faults themselves are refused by the real commands, and go on handling them.
@Suite(
    .serialized,
    .timeLimit(.minutes(5 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct OwnUserfaultfdTests {
    /// Words of the remedy for each sign.
    private static let remedies: [FaultHandlingProgram.Sign: String] = [
        .descriptor: "close the userfaultfd before the move",
        .registration: "let its page fault handler unregister the range",
        .socket: "close it before the move",
        .child: "wait until the child has ended",
        .threadTable: "without unshare(CLONE_FILES)",
        .device: "close it before the move",
    ]

    @Test(arguments: FaultHandlingProgram.all)
    func pageServerRefusesIt(program: FaultHandlingProgram) throws {
        try program.run { running in
            let before = try ProcessSnapshot(of: running.pid)
            let server = try Move.startServer(running.pid)
            let events = StatusEvents(of: server)
            try events.finish()
            #expect(try server.waitForExit() == .exited(78), "\(events.names) \(server.report())")
            #expect(events.names == ["failed"] && events.first("failed")?["code"]?.integer == 78)
            #expect(try ProcessSnapshot(of: running.pid).changes(since: before) == [])
            expect(server.errors, name: program, running)
        }
    }

    /// The same with pre-copy: the tracker's registration meets the other one, and takes back what it has registered so far.
    @Test(arguments: FaultHandlingProgram.late.filter { !$0.words.hasPrefix("minor") })
    func registrationBehindTheExaminationIsRefusedBeforePreCopy(program: FaultHandlingProgram) throws {
        try program.run { running in
            var running = running
            let server = try Move.startServer(running.pid)
            let serverEvents = StatusEvents(of: server)
            let port = try serverEvents.wait(for: "listening")["port"]?.integer ?? 0
            try running.register()
            let before = try ProcessSnapshot(of: running.pid)
            let restorer = try Move.startRestorer(port, .init(preCopies: true))
            try expectRefusal(server, restorer, serverEvents, running)
            #expect(try ProcessSnapshot(of: running.pid).changes(since: before) == [])
        }
    }

    /// Memory that the program maps and registers while pages are being copied.
    @Test(arguments: ["missing", "wp", "async"])
    func registrationDuringPreCopyIsRefused(words: String) throws {
        try FaultHandlingProgram("\(words),later,fresh,large", .descriptor, .registration).run { running in
            var running = running
            let server = try Move.startServer(running.pid)
            let serverEvents = StatusEvents(of: server)
            let port = try serverEvents.wait(for: "listening")["port"]?.integer ?? 0
            let options = Move.Options(
                preCopies: true,
                destination: ["--new-pid-namespace", "--max-pause", "0", "--pre-copy-rounds", "1000"]
            )
            let restorer = try Move.startRestorer(port, options)
            try serverEvents.wait(for: "pre-copy")
            try running.register()
            try expectRefusal(server, restorer, serverEvents, running)
            let registered = try ProcessSnapshot(of: running.pid).facts.filter {
                $0.hasPrefix("mapping") && ($0.contains(" um ") || $0.contains(" uw "))
            }
            #expect(registered.count == 1 && registered.allSatisfy { $0.contains(running.objects.last ?? "?") })
        }
    }

    /// Both sides end with 78 and name the range, or the descriptor when the tracker sees that first.
    private func expectRefusal(
        _ server: TestProcess,
        _ restorer: TestProcess,
        _ serverEvents: StatusEvents,
        _ running: FaultHandlingProgram.Running
    ) throws {
        let restorerEvents = StatusEvents(of: restorer)
        try serverEvents.finish()
        try restorerEvents.finish()
        #expect(try server.waitForExit() == .exited(78), "\(server.report())")
        #expect(try restorer.waitForExit() == .exited(78), "\(restorer.report())")
        #expect(!restorerEvents.names.contains("running"), "\(restorerEvents.names)")
        let address = running.objects.last ?? "no address"
        let descriptor = running.objects.count > 1 ? "descriptor \(running.objects[0]) (userfaultfd)" : "none"
        for message in [server.errors, restorer.errors] {
            let namesRange = message.contains(address) && message.contains("unregister the range")
            let namesDescriptor = message.contains(descriptor) && message.contains("let the program close it")
            #expect(namesRange || namesDescriptor, "\(running.objects): \(message)")
        }
    }

    /// The page server listens; the program registers; a destination comes: the freeze refuses, and both sides say why.
    @Test(arguments: FaultHandlingProgram.late)
    func registrationBehindTheExaminationIsRefusedAtTheFreeze(program: FaultHandlingProgram) throws {
        try program.run { running in
            var running = running
            let server = try Move.startServer(running.pid)
            let serverEvents = StatusEvents(of: server)
            let port = try serverEvents.wait(for: "listening")["port"]?.integer ?? 0
            try running.register()
            let before = try ProcessSnapshot(of: running.pid)
            let restorer = try Move.startRestorer(port)
            let restorerEvents = StatusEvents(of: restorer)
            try serverEvents.finish()
            try restorerEvents.finish()
            #expect(try server.waitForExit() == .exited(78), "\(server.report())")
            #expect(try restorer.waitForExit() == .exited(78), "\(restorer.report())")
            #expect(!serverEvents.names.contains("frozen") && !restorerEvents.names.contains("running"))
            #expect(try ProcessSnapshot(of: running.pid).changes(since: before) == [])
            expect(server.errors, name: program, running)
            expect(restorer.errors, name: program, running)
        }
    }

    /// Another program holds a userfaultfd of the process and has registered nothing: no sign shows that.
    @Test func monitorThatHasRegisteredNothingIsNoReasonToRefuse() throws {
        try FaultHandlingProgram("none,passed").run { running in
            let before = try ProcessSnapshot(of: running.pid)
            let server = try Move.startServer(running.pid)
            try StatusEvents(of: server).wait(for: "listening")
            server.signal(15)
            try server.waitForExit()
            #expect(try ProcessSnapshot(of: running.pid).changes(since: before) == [])
        }
    }

    @Test func processThatIsBeingRestoredIsRefused() throws {
        try withMovableVictim("carried", ["large", "anonymous"]) { victim in
            let move = try Move(of: victim.pid)
            let copy = try move.waitUntilRunning()
            // Its pages stay on the source for the time of the second attempt.
            move.server.signal(19)
            defer { move.server.signal(18) }
            let second = try Move.startServer(copy)
            #expect(try second.waitForExit() == .exited(78), "\(second.report())")
            #expect(second.errors.contains("is itself being restored"), "\(second.errors)")
            #expect(second.errors.contains("wait until it is resident"), "\(second.errors)")
            #expect(try move.restorer.pollForExit() == nil)
            move.server.signal(18)
            try move.waitUntilComplete()
            // Once it is resident nothing of the restore is left, and it can be moved on.
            let third = try Move.startServer(copy)
            try StatusEvents(of: third).wait(for: "listening")
            third.signal(15)
            try third.waitForExit()
            #expect(try victim.verdict() == "ok carried")
        }
    }

    /// Until it is resident its memory is registered by the restorer: the program's own registration fails with EBUSY, which it may
    /// try again. What it maps after the move it can register at once.
    @Test func programThatBeginsToHandleFaultsAfterAMoveCanWhenItIsResident() throws {
        try withMovableVictim("uffd-afterwards") { victim in
            let move = try Move(of: victim.pid)
            // Seen by the copy alone, with its first look.
            try move.serverEvents.wait(for: "frozen")
            try victim.tell("go")
            try move.waitUntilRunning()
            let refused = try victim.waitForLine { $0.hasPrefix("refused ") }
            let registered = try victim.waitForLine { $0.hasPrefix("registered ") }
            let verdict = try victim.verdict()
            #expect(verdict == "ok uffd-afterwards")
            if refused == "refused 0" {
                // No defect, but nothing of the time before is tried.
                Issue.record("everything had come before the program's first try", severity: .warning)
            }
            let resident = try move.restorerEvents.wait(for: "resident")["time"]?.number ?? 0
            let delay = (Double(registered.dropFirst("registered ".count)) ?? 0) / 1e6 - resident
            #expect(delay > 0, "registered \(-delay) s before it was resident")
            #expect(try move.restorer.waitForExit() == .exited(0), "\(move.restorer.report())")
        }
    }

    private func expect(
        _ message: String,
        name program: FaultHandlingProgram,
        _ running: FaultHandlingProgram.Running
    ) {
        let remedies = program.signs.map { Self.remedies[$0] ?? "no remedy for \($0)" }
        for word in running.objects + remedies {
            #expect(message.contains(word), "\(program): '\(word)' is not in: \(message)")
        }
        if program.signs.contains(.registration) || program.signs.contains(.descriptor) {
            #expect(message.contains("page fault"), "\(program): \(message)")
        }
    }
}
