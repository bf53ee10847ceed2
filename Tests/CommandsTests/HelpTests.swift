// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing

/// Texts that users read and scripts complete by; a change of one is a change of the interface.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct HelpTests {
    @Test(arguments: [
        ("thaw", ["--help"]),
        ("check", ["check", "--help"]),
        ("page-server", ["page-server", "--help"]),
        ("restore", ["restore", "--help"]),
        ("settle", ["settle", "--help"]),
        ("status", ["status", "--help"]),
        ("track", ["track", "--help"]),
    ])
    func helpIsAsRecorded(name: String, arguments: [String]) throws {
        let run = try CommandRun(arguments)
        try Golden.expect(run.output, name)
        #expect(run.ending == .exited(0))
        #expect(run.errors.isEmpty)
    }

    @Test
    func versionGoesToStandardOutput() throws {
        let run = try CommandRun(["--version"])
        #expect(run.output == "thaw 0.1.0\n")
        #expect(run.ending == .exited(0))
    }
}
