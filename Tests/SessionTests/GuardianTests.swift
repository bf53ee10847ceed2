// SPDX-License-Identifier: Apache-2.0
import LinuxSystem
import TestSupport
import Testing

// SPDX-License-Identifier: Apache-2.0
@testable import LazyRestore

@Suite(.serialized, .timeLimit(.minutes(5))) struct GuardianTests {
    /// A process with a child: prints the child's pid.
    private func withFamily(_ body: (_ parent: TestProcess, _ child: Int32) throws -> Void) throws {
        try withProcess("/bin/sh", ["-c", "sleep 1000 & echo $!; wait"]) { parent in
            guard let child = Int32(try parent.readLine()) else { throw TestFailure("no pid of the child") }
            defer { if processIsAlive(child) { _ = try? ProcessDescriptor(pid: child).send(.kill) } }
            try body(parent, child)
        }
    }

    @Test func theProcessAndItsChildrenDieWithTheRestorer() throws {
        try withFamily { parent, child in
            let ended: ProcessDescriptor
            do {
                let guardian = try Guardian()
                ended = try ProcessDescriptor(pid: guardian.pid)
                let descriptor = try ProcessDescriptor(pid: parent.pid)
                try guardian.doom(pidfd: descriptor.descriptor, pid: parent.pid)
                #expect(try parent.pollForExit() == nil)
                // The last reference goes here, as it does when the restorer dies.
            }
            #expect(try parent.waitForExit() == .signaled(9))
            try wait(for: "the end of child \(child)") { !processIsAlive(child) }
            #expect(try ended.reap(until: .after(patience)) == .exited(0))
        }
    }

    @Test func aReleasedGuardianHarmsNobody() throws {
        try withFamily { parent, child in
            var pipe = try DescriptorPair.pipe()
            let reader = pipe.takeFirst()
            do {
                let guardian = try Guardian()
                let descriptor = try ProcessDescriptor(pid: parent.pid)
                let writer = pipe.takeSecond()
                try guardian.hold(userfaultfd: writer.rawValue)
                try guardian.doom(pidfd: descriptor.descriptor, pid: parent.pid)
                try guardian.release()
            }
            // Everything that the guardian held is closed.
            let rest = try DescriptorIO.readToEnd(reader.rawValue, limit: 10, until: .after(patience))
            #expect(rest.isEmpty)
            #expect(try parent.pollForExit() == nil)
            #expect(processIsAlive(child))
        }
    }

    @Test func whatTheGuardianHoldsStaysOpen() throws {
        var pipe = try DescriptorPair.pipe()
        let reader = pipe.takeFirst()
        let guardian = try Guardian()
        do {
            let writer = pipe.takeSecond()
            try guardian.hold(userfaultfd: writer.rawValue)
        }
        #expect(try !DescriptorIO.wait(for: .readable, on: reader.rawValue, until: .immediate))
        try guardian.release()
        #expect(try DescriptorIO.wait(for: .readable, on: reader.rawValue, until: .after(patience)))
    }

    @Test func theGuardianHasItsNameAndLeavesNothing() throws {
        let guardian = try Guardian()
        try wait(for: "its name") { (try? readText("/proc/\(guardian.pid)/comm")) == "thaw-guardian\n" }
        try guardian.release()
        #expect(processState(guardian.pid) == nil)
    }
}
