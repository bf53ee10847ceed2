// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct DetachmentTests {
    private static let arguments = ["restore", "--port", "1", "--tls-dir", "/nonexistent"]

    /// The daemon says what is wrong, on the caller's own standard error, and the caller ends with the daemon's code.
    @Test
    func aDetachedRestoreThatFailsEndsAsAnAttachedOneDoes() throws {
        let attached = try CommandRun(Self.arguments)
        let detached = try CommandRun(Self.arguments + ["--detach"])
        #expect(detached.ending == attached.ending)
        #expect(detached.ending != .exited(0))
        #expect(Self.complaints(of: detached) == Self.complaints(of: attached))
        #expect(Self.complaints(of: detached).count == 1)
    }

    private static func complaints(of run: CommandRun) -> [Substring] {
        run.errors.split(separator: "\n").filter { $0.hasPrefix("thaw: ") }
    }
}
