// SPDX-License-Identifier: Apache-2.0
import FrameTransport
import LinuxSystem
import Logging
import PageWire
import Paging
import Reporting
import TLSSession
import TestSupport
import Testing

@testable import LazyRestore
@testable import PageServer

/// Every way in which a certificate can be wrong, on both sides of a move: who refuses, in which words on either side, with which exit
/// code; and that the session of the right peer goes on.
///
/// The wrong side is played twice: by our own program, which finds most of it in its own files, and by openssl(1), which keeps no rule.
@Suite(.serialized, .timeLimit(.minutes(2))) struct TLSMatrixTests {
    static let foreign = "was not issued by"
    static let purpose = "is not made for"

    // MARK: - Wrong restorers

    @Test(arguments: wrongRestorers)
    func aWrongRestorerIsTurnedAwayAndTheSessionOfTheRightOneGoesOn(_ wrong: WrongRestorer) throws {
        let folder = try BadCertificates.directory()
        let log = RecordedLog()
        let server = try ServerUnderTest(FakeProcess(Self.memory), logger: log.logger) { options in
            options.tls.directory = folder + wrong.folder
            options.tls.revocations = wrong.revocations.map { "\(folder)/\($0)" }
            options.allow = wrong.allow
        }
        let right = try ScriptedDestination(port: server.port) { options in
            options.tls.directory = folder + wrong.folder
            guard !wrong.allow.isEmpty else { return }
            options.tls.certificate = "\(folder)/other-client-cert.pem"
            options.tls.key = "\(folder)/other-client-key.pem"
        }
        if let ends = wrong.ends {
            let failure = try #require(throws: SessionFailure.self) {
                try ScriptedDestination(port: server.port) { options in
                    options.tls.directory = folder + wrong.folder
                    options.tls.certificate = wrong.identity.map { "\(folder)/\($0)-cert.pem" }
                    options.tls.key = (wrong.key ?? wrong.identity).map { "\(folder)/\($0)-key.pem" }
                }
            }
            #expect(failure.code == ends.code, "\(failure.message)")
            #expect(failure.message.contains(ends.words), "\(failure.message)")
        }
        // It hears of its refusal before the page server writes it down.
        if wrong.ends?.code == .peer { try wait(for: "the page server's word") { !log.all.isEmpty } }
        log.forget()
        var arguments = ["s_client", "-connect", "127.0.0.1:\(server.port)", wrong.version, "-quiet"]
        arguments += ["-cipher", "DEFAULT@SECLEVEL=0", "-CAfile", "\(folder)\(wrong.folder)/ca-cert.pem"]
        // With a key that does not belong to it openssl shows no certificate.
        if let identity = wrong.identity, wrong.key == nil || wrong.key == "chained/client" {
            arguments += ["-cert", "\(folder)/\(identity)-cert.pem"]
            arguments += ["-key", "\(folder)/\(wrong.key ?? identity)-key.pem"]
        }
        try withProcess(try #require(Machine.program("openssl")), arguments, options: .init(output: .null)) { rogue in
            try rogue.waitForExit()
            #expect(rogue.errors.contains("SSL alert number \(wrong.alert)\n"), "\(rogue.report())")
        }
        try wait(for: "the page server's word, it said \(log.all)") { !log.all.isEmpty }
        #expect(log.all.count == 1 && log.all[0].contains(wrong.refusal), "\(log.all)")
        #expect(server.process.done == [.examined])
        try complete(right, server)
    }

    private static let memory: FakeMemory = {
        var memory = FakeMemory()
        memory.data.insert(0x100..<0x110)
        return memory
    }()

    private func complete(_ destination: ScriptedDestination, _ server: ServerUnderTest) throws {
        try destination.openPageConnections()
        _ = try destination.reachGrant()
        var digest = PageDigest()
        _ = try destination.drain(into: &digest)
        try destination.send(.complete(PageTally(digest)))
        guard case .acknowledged = try destination.receive() else { throw TestFailure("not acknowledged") }
        #expect(try server.outcome().outcome == Outcome())
    }

    // MARK: - Wrong page servers

    @Test(arguments: wrongPageServers)
    func aWrongPageServerIsNotTrusted(_ wrong: WrongPageServer) throws {
        let folder = try BadCertificates.directory()
        if let identity = wrong.identity {
            let key = wrong.key ?? identity
            let error = Self.startError(folder, wrong, certificate: identity, key: key)
            let words = error?.description ?? "nothing"
            #expect(error.flatMap { ExitCode(rawValue: $0.exitCode) } == wrong.ends?.code, "\(words)")
            if let ends = wrong.ends { #expect(words.contains(ends.words)) }
        }
        var arguments = ["s_server", "-accept", "127.0.0.1:0", wrong.version, "-naccept", "1"]
        arguments += [
            "-cipher", "DEFAULT@SECLEVEL=0", "-CAfile", "\(folder)\(wrong.folder)/ca-cert.pem", "-Verify", "3",
        ]
        if let identity = wrong.identity {
            arguments += [
                "-cert", "\(folder)/\(identity)-cert.pem", "-key", "\(folder)/\(wrong.key ?? identity)-key.pem",
            ]
        } else {
            arguments.append("-nocert")
        }
        let openssl = try #require(Machine.program("openssl"))
        try withProcess(openssl, arguments, options: .init(input: .pipe)) { rogue in
            let port = try Self.port(of: rogue)
            let failure = try #require(throws: SessionFailure.self) {
                try ScriptedDestination(port: port) { options in
                    options.tls.directory = folder + wrong.folder
                    options.tls.revocations = wrong.revocations.map { "\(folder)/\($0)" }
                    options.serverName = wrong.name
                }
            }
            #expect(failure.code == .peer, "\(failure.message)")
            #expect(failure.message.contains(wrong.refusal), "\(failure.message)")
            try rogue.waitForExit()
            if let alert = wrong.alert {
                #expect(rogue.errors.contains("SSL alert number \(alert)\n"), "\(rogue.report())")
            }
        }
    }

    /// What our page server says of such files when it starts.
    private static func startError(
        _ folder: String,
        _ wrong: WrongPageServer,
        certificate: String,
        key: String
    ) -> TLSError? {
        do throws(TLSError) {
            let files = TLSFiles(
                authority: "\(folder)\(wrong.folder)/ca-cert.pem",
                certificate: "\(folder)/\(certificate)-cert.pem",
                key: "\(folder)/\(key)-key.pem",
                revocations: wrong.revocations.map { "\(folder)/\($0)" }
            )
            _ = try TLSContext.server(files, allowing: .anyCertified)
            return nil
        } catch {
            return error
        }
    }

    /// The port that `openssl s_server` has taken.
    private static func port(of server: TestProcess) throws -> UInt16 {
        while true {
            let line = try server.readLine()
            guard line.hasPrefix("ACCEPT ") else { continue }
            guard let port = line.split(separator: ":").last.flatMap({ UInt16($0) }) else {
                throw TestFailure("no port in \(line)")
            }
            return port
        }
    }

    @Test func bothTablesHaveTwentyRows() {
        #expect(Self.wrongRestorers.count >= 20)
        #expect(Self.wrongPageServers.count >= 20)
        #expect(Set(Self.wrongRestorers.map(\.testDescription)).count == Self.wrongRestorers.count)
        #expect(Set(Self.wrongPageServers.map(\.testDescription)).count == Self.wrongPageServers.count)
    }

    // MARK: - What is accepted

    /// Names that a restorer may ask for, with the page server that carries them.
    @Test(arguments: [
        ("server", "source.example"), ("server", "127.0.0.1"), ("server", "::1"), ("server", "spiffe://example/source"),
        ("star-server", "a.wild.example"),
    ])
    func aNameThatThePageServerCarriesIsEnough(_ identity: String, _ name: String) throws {
        let folder = try BadCertificates.directory()
        let server = try ServerUnderTest(FakeProcess(Self.memory)) { options in
            options.tls.directory = folder
            options.tls.certificate = "\(folder)/\(identity)-cert.pem"
            options.tls.key = "\(folder)/\(identity)-key.pem"
        }
        let right = try ScriptedDestination(port: server.port) { options in
            options.tls.directory = folder
            options.serverName = name
        }
        try complete(right, server)
    }

    /// Names of a restorer that can be allowed.
    @Test(arguments: [
        ("client", "destination.example"), ("client", "DESTINATION.EXAMPLE"),
        ("client", "spiffe://example/destination"),
        ("uri-client", "spiffe://example/only"),
    ])
    func anAllowedNameIsEnough(_ identity: String, _ name: String) throws {
        let folder = try BadCertificates.directory()
        let server = try ServerUnderTest(FakeProcess(Self.memory)) { options in
            options.tls.directory = folder
            options.allow = ["somebody.example", name]
        }
        let right = try ScriptedDestination(port: server.port) { options in
            options.tls.directory = folder
            options.tls.certificate = "\(folder)/\(identity)-cert.pem"
            options.tls.key = "\(folder)/\(identity)-key.pem"
        }
        try complete(right, server)
    }

    /// A session belongs to a certificate, not to a name: a new certificate of the same name is another peer until that one has left.
    @Test func aRenewedCertificateOfTheSameNameHasNoPartInASession() throws {
        let folder = try BadCertificates.directory()
        let server = try ServerUnderTest(FakeProcess(Self.memory)) { options in
            options.tls.directory = folder
            options.allow = ["destination.example"]
        }
        let before = try ScriptedDestination(port: server.port) { $0.tls.directory = folder }
        var options = RestoreOptions(port: server.port)
        options.tls.directory = folder
        options.tls.certificate = "\(folder)/renewed-client-cert.pem"
        options.tls.key = "\(folder)/renewed-client-key.pem"
        let renewed = try PageServerLink(options, stop: EventDescriptor())
        for kind in [ConnectionKind.fault, .bulk] {
            let failure = #expect(throws: SessionFailure.self) { try renewed.open(kind, session: before.session) }
            #expect(failure?.code == .peer)
            #expect(failure?.message.contains("there is no such session for this peer") == true)
        }
        let busy = #expect(throws: SessionFailure.self) { try renewed.open(.control) }
        #expect(busy?.code == .tryAgain)
        #expect(busy?.message.contains("another destination is being served") == true)
        before.vanish()
        try wait(for: "room for the renewed one") { (try? renewed.open(.control)) != nil }
    }

    /// After the grant nobody takes the process over, whatever name he has.
    @Test func aRenewedCertificateOfTheSameNameTakesNoGrantOver() throws {
        let folder = try BadCertificates.directory()
        let server = try ServerUnderTest(FakeProcess(Self.memory)) { options in
            options.tls.directory = folder
            options.hold = .seconds(5)
        }
        let before = try ScriptedDestination(port: server.port) { $0.tls.directory = folder }
        _ = try before.reachGrant()
        before.vanish()
        try server.events.wait(for: .lost)
        let failure = #expect(throws: SessionFailure.self) {
            try ScriptedDestination(port: server.port) { options in
                options.tls.directory = folder
                options.tls.certificate = "\(folder)/renewed-client-cert.pem"
                options.tls.key = "\(folder)/renewed-client-key.pem"
            }
        }
        #expect(failure?.code == .tryAgain)
        #expect(failure?.message.contains("the process was granted to another destination") == true)
        #expect(try server.outcome().outcome.exitStatus == 74)
    }
}

/// Why connections were turned away, in the words of the log.
private final class RecordedLog: Sendable {
    private let reasons = Lock<[String]>([])

    var all: [String] { reasons.withLock { $0 } }

    func forget() { reasons.withLock { $0 = [] } }

    var logger: Logger {
        Logger(label: "test") { [self] _ in Handler(log: self) }
    }

    private struct Handler: LogHandler {
        let log: RecordedLog
        var metadata: Logger.Metadata = [:]
        var logLevel = Logger.Level.trace

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            guard "\(event.message)" == "A connection was turned away" else { return }
            let reason = event.metadata?["reason"].map { "\($0)" } ?? ""
            log.reasons.withLock { $0.append(reason) }
        }
    }
}
