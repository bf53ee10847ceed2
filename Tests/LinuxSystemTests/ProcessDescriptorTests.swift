// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import TestSupport
internal import Testing

@Suite("Processes and signals", .serialized, .timeLimit(.minutes(5)))
struct ProcessDescriptorTests {
    @Test func aChildIsSignalledWaitedForAndReaped() throws {
        let child = try ProcessDescriptor(pid: start("/bin/sleep", "1000"))
        #expect(try !child.waitForEnd(until: .immediate))
        #expect(try child.reap(until: .immediate) == nil)
        #expect(try child.send(.kill))
        #expect(try child.waitForEnd(until: soon()))
        #expect(try child.reap(until: soon()) == .signalled(.kill, coreDumped: false))
        #expect(try !child.send(.kill), "it is gone")
        let error = #expect(throws: SystemCallError.self) { try child.reap(until: soon()) }
        #expect(error?.errno == .noChild)
    }

    @Test func theStatusOfAChildIsTaken() throws {
        let child = try ProcessDescriptor(pid: start("/bin/sh", "-c", "exit 7"))
        let status = try child.reap(until: soon())
        #expect(status == .exited(7))
        #expect(status?.shellStatus == 7)
    }

    @Test func aProcessThatDoesNotExistIsAnError() {
        let error = #expect(throws: SystemCallError.self) { try ProcessDescriptor(pid: 0x3fff_ffff) }
        #expect(error?.errno == .noSuchProcess)
    }

    @Test func aDescriptorOfAnotherProcessIsDuplicated() throws {
        let event = try EventDescriptor()
        let me = try ProcessDescriptor(pid: getpid())
        let copy = try me.duplicate(event.descriptor)
        try DescriptorIO.write([5, 0, 0, 0, 0, 0, 0, 0], to: copy.rawValue)
        #expect(event.drain() == 5)
        let error = #expect(throws: SystemCallError.self) { _ = try me.duplicate(0x7fff) }
        #expect(error?.errno == .badDescriptor)
    }

    @Test(
        arguments: [
            (0, LinuxSystem.ExitStatus.exited(0)), (0x0700, .exited(7)), (0xff00, .exited(255)),
            (9, .signalled(.kill, coreDumped: false)), (0x8b, .signalled(.segmentationFault, coreDumped: true)),
            (0x137f, nil), (0xffff, nil),
        ] as [(Int32, LinuxSystem.ExitStatus?)]
    )
    func aStatusWordIsDecoded(_ word: Int32, _ status: LinuxSystem.ExitStatus?) {
        #expect(LinuxSystem.ExitStatus(waitStatus: word) == status)
    }

    @Test func signalsHaveTheirNames() {
        #expect(Signal.terminate.description == "SIGTERM")
        #expect(Signal(rawValue: 34).description == "SIGRTMIN+0")
        #expect(Signal(rawValue: 64).description == "SIGRTMIN+30")
        #expect(Signal(rawValue: 99).description == "signal 99")
    }

    @Test func aSetOfSignalsHasTheKernelsBits() {
        let set: SignalSet = [.hangup, .terminate, Signal(rawValue: 64), Signal(rawValue: 0), Signal(rawValue: 65)]
        #expect(set.rawValue == 0x8000_0000_0000_4001 as UInt64)
        #expect(set.contains(.terminate))
        #expect(!set.contains(.interrupt))
        #expect(!set.contains(Signal(rawValue: 65)))
    }

    @Test func signalsAreReadAsData() async {
        await #expect(processExitsWith: .success) {
            let before = SignalSet.blocked
            let signals = try SignalDescriptor([.user1, .user2])
            #expect(SignalSet.blocked.rawValue == before.rawValue | SignalSet([.user1, .user2]).rawValue)
            #expect(try signals.next() == nil)
            // To this thread only: others of the test runner do not block it.
            #expect(pthread_kill(pthread_self(), SIGUSR2) == 0)
            #expect(SignalSet.pending.contains(.user2))
            #expect(try DescriptorIO.wait(for: .readable, on: signals.descriptor, until: soon()))
            let received = try signals.next()
            #expect(received?.signal == .user2)
            #expect(received?.sender == getpid())
            #expect(try signals.next() == nil)
            try before.restore()
            #expect(SignalSet.blocked == before)
        }
    }

    private func start(_ path: String, _ arguments: String...) throws -> Int32 {
        var list = unsafe ([path] + arguments).map { unsafe strdup($0) }
        unsafe list.append(nil)
        defer { for index in 0..<arguments.count + 1 { unsafe free(list[index]) } }
        var pid: pid_t = 0
        let result = unsafe posix_spawn(&pid, path, nil, nil, list, environ)
        guard result == 0 else { throw TestFailure("posix_spawn \(path): \(result)") }
        return pid
    }
}
