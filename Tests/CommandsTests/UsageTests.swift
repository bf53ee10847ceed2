// SPDX-License-Identifier: Apache-2.0
import TestSupport
import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct UsageTests {
    private static let tls = ["--tls-dir", "/nonexistent"]

    /// What is wrong, and what the message must name.
    private static let wrong: [(arguments: [String], named: String)] = [
        (["bogus"], "bogus"),
        (["page-server"], "--tree"),
        (["page-server", "-t", "1", "--bogus"] + tls, "--bogus"),
        (["page-server", "-t", "x"] + tls, "'x'"),
        (["page-server", "--tree=-1"] + tls, "-1"),
        (["page-server", "-t", "0"] + tls, "'-t 0'"),
        (["page-server", "-t", "1", "--port", "65536"] + tls, "65536"),
        (["page-server", "-t", "1", "--on-complete", "explode"] + tls, "explode"),
        (["page-server", "-t", "1", "--allow", ""] + tls, "--allow"),
        (["page-server", "-t", "1", "--tracker", "magic"] + tls, "'magic'"),
        (["page-server", "-t", "1", "--no-pre-copy", "--tracker", "wp-sync"] + tls, "'--tracker wp-sync'"),
        (["page-server", "-t", "1"], "--tls-dir"),
        (["page-server", "-t", "1", "--tls-cacert", "a", "--tls-key", "b"], "--tls-cert"),
        (["restore"] + tls, "--port"),
        (["restore", "--port", "0"] + tls, "--port"),
        (["restore", "--port", "1", "--address", ""] + tls, "--address"),
        (["restore", "--port", "1"], "no switch that turns TLS off"),
        (["restore", "--port", "1", "--quiet", "-v"] + tls, "'--quiet' and '--verbose'"),
        (["restore", "--port", "1", "--log-format", "xml"] + tls, "xml"),
        (["restore", "--port", "1", "--status-fd", "9"] + tls, "'--status-fd 9' is not open"),
        (["restore", "--port", "1", "--status-fd=-1"] + tls, "-1"),
        (["restore", "--port", "1", "--status-fd", "0"] + tls, "reading only"),
        (["restore", "--port", "1", "--on-source-loss", "forget"] + tls, "forget"),
        (["restore", "--port", "1", "--on-source-loss", "hope"] + tls, "'hope'"),
        (["restore", "--port", "1", "--on-source-loss", "wait", "--loss-timeout", "1"] + tls, "--loss-timeout"),
        (["settle", "7"], "'--thaw' and '--drop'"),
        (["settle", "7", "--thaw", "--drop"], "'--thaw' and '--drop'"),
        (["status", "--format", "xml"], "xml"),
        (["check", "--format", "xml"], "xml"),
        (["track"], "--tree"),
        (["track", "-t", "0"], "'-t 0'"),
        (["track", "-t", "1", "--interval", "0"], "--interval"),
        (["track", "-t", "1", "--interval", "nan"], "--interval"),
        (["track", "-t", "1", "--interval", "1e9"], "--interval"),
        (["track", "-t", "1", "--rounds", "0"], "--rounds"),
        (["track", "-t", "1", "--tracker", "magic"], "'magic'"),
        (["track", "-t", "1", "--bandwidth", "0"], "'0'"),
        (["track", "-t", "1", "--bandwidth", "1parsec"], "1parsec"),
        (["track", "-t", "1", "--format", "xml"], "xml"),
    ]

    @Test(arguments: wrong)
    func wrongUsageExitsWith64AndNamesTheOption(arguments: [String], named: String) throws {
        let run = try CommandRun(arguments)
        #expect(run.ending == .exited(64))
        #expect(run.errors.contains(named), "\(run.errors)")
        #expect(run.output.isEmpty)
    }

    @Test
    func aPidfileThatCannotBeWrittenIsNamed() throws {
        let run = try CommandRun(
            ["page-server", "-t", "1", "--pidfile", "/nonexistent/thaw.pid"] + Self.tls
        )
        #expect(run.ending == .exited(66))
        #expect(run.errors.contains("--pidfile /nonexistent/thaw.pid"), "\(run.errors)")
    }
}
