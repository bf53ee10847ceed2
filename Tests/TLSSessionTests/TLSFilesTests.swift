// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import TLSSession
internal import TestSupport
internal import Testing

@Suite("Certificate files", .serialized, .timeLimit(.minutes(5)))
struct TLSFilesTests {
    /// One way in which files are wrong.
    struct Case: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let code: TLSError.Code
        let exitCode: Int32
        var role = TLSFiles.Role.client
        var authority = "ca-cert.pem"
        var certificate = "client-cert.pem"
        var key = "client-key.pem"
        var revocations: String?
        /// Words that the message must have besides the name of the file.
        var words = ""
        /// The file that the message must name.
        let names: String
    }

    static let cases: [Case] = [
        Case(
            testDescription: "no CA",
            code: .missing,
            exitCode: 66,
            authority: "none.pem",
            words: "does not exist",
            names: "none.pem"
        ),
        Case(
            testDescription: "no certificate",
            code: .missing,
            exitCode: 66,
            certificate: "none.pem",
            names: "none.pem"
        ),
        Case(testDescription: "no key", code: .missing, exitCode: 66, key: "none.pem", names: "none.pem"),
        Case(testDescription: "no list", code: .missing, exitCode: 66, revocations: "none.pem", names: "none.pem"),
        Case(
            testDescription: "path through a file",
            code: .missing,
            exitCode: 66,
            key: "ca-cert.pem/x",
            names: "ca-cert.pem/x"
        ),
        Case(testDescription: "folder", code: .notAFile, exitCode: 65, certificate: "foreign", names: "foreign"),
        Case(
            testDescription: "exposed key",
            code: .exposed,
            exitCode: 65,
            key: "exposed-client-key.pem",
            words: "mode 0644",
            names: "exposed-client-key.pem"
        ),
        Case(
            testDescription: "broken certificate",
            code: .malformed,
            exitCode: 65,
            certificate: "broken-cert.pem",
            names: "broken-cert.pem"
        ),
        Case(
            testDescription: "broken CA",
            code: .malformed,
            exitCode: 65,
            authority: "broken-cert.pem",
            words: "CA certificate",
            names: "broken-cert.pem"
        ),
        Case(
            testDescription: "key for certificate",
            code: .malformed,
            exitCode: 65,
            certificate: "client-key.pem",
            names: "client-key.pem"
        ),
        Case(
            testDescription: "certificate for list",
            code: .malformed,
            exitCode: 65,
            revocations: "ca-cert.pem",
            words: "revocation list",
            names: "ca-cert.pem"
        ),
        Case(
            testDescription: "encrypted key",
            code: .encrypted,
            exitCode: 65,
            key: "encrypted-client-key.pem",
            words: "password",
            names: "encrypted-client-key.pem"
        ),
        Case(
            testDescription: "key of another",
            code: .mismatch,
            exitCode: 65,
            key: "server-key.pem",
            words: "does not belong",
            names: "server-key.pem"
        ),
        Case(
            testDescription: "expired",
            code: .expired,
            exitCode: 65,
            certificate: "expired-client-cert.pem",
            key: "expired-client-key.pem",
            words: "2021-01-01 00:00:00 UTC",
            names: "expired-client-cert.pem"
        ),
        Case(
            testDescription: "not yet valid",
            code: .notYetValid,
            exitCode: 65,
            certificate: "future-client-cert.pem",
            key: "future-client-key.pem",
            words: "2090-01-01 00:00:00 UTC",
            names: "future-client-cert.pem"
        ),
        Case(
            testDescription: "other CA",
            code: .untrusted,
            exitCode: 65,
            authority: "foreign/ca-cert.pem",
            words: "was not issued by",
            names: "client-cert.pem"
        ),
        Case(
            testDescription: "self-signed",
            code: .untrusted,
            exitCode: 65,
            certificate: "self-signed-client-cert.pem",
            key: "self-signed-client-key.pem",
            names: "self-signed-client-cert.pem"
        ),
        Case(
            testDescription: "client's for a server",
            code: .wrongPurpose,
            exitCode: 65,
            role: .server,
            words: "serverAuth",
            names: "client-cert.pem"
        ),
        Case(
            testDescription: "server's for a client",
            code: .wrongPurpose,
            exitCode: 65,
            certificate: "server-cert.pem",
            key: "server-key.pem",
            words: "clientAuth",
            names: "server-cert.pem"
        ),
        Case(
            testDescription: "revoked",
            code: .revoked,
            exitCode: 65,
            certificate: "revoked-client-cert.pem",
            key: "revoked-client-key.pem",
            revocations: "crl.pem",
            names: "revoked-client-cert.pem"
        ),
        Case(
            testDescription: "stale list",
            code: .staleRevocations,
            exitCode: 65,
            revocations: "stale-crl.pem",
            words: "2021-01-01",
            names: "stale-crl.pem"
        ),
        Case(
            testDescription: "list of another CA",
            code: .staleRevocations,
            exitCode: 65,
            revocations: "foreign/crl.pem",
            names: "foreign/crl.pem"
        ),
        Case(
            testDescription: "certificate between is missing",
            code: .untrusted,
            exitCode: 65,
            authority: "chained/ca-cert.pem",
            certificate: "chained/between/client-cert.pem",
            key: "chained/client-key.pem",
            names: "chained/between/client-cert.pem"
        ),
    ]

    @Test(arguments: cases)
    func eachWayOfBeingWrongHasItsOwnCodeAndNamesTheFileAndTheRemedy(_ wrong: Case) throws {
        let error = try #require(throws: TLSError.self) { try load(wrong) }
        #expect(error.code == wrong.code, "\(error)")
        #expect(error.exitCode == wrong.exitCode)
        let path = try Files.path(wrong.names)
        #expect(error.message.contains("\"\(path)\""), "\(error)")
        #expect(error.description.contains(wrong.words), "\(error)")
        #expect(error.remedy?.isEmpty == false, "\(error)")
    }

    @Test func goodFilesOfBothRolesAreTaken() throws {
        let folder = try BadCertificates.directory()
        let server = try TLSContext.server(TLSFiles(directory: folder, role: .server), allowing: .anyCertified)
        #expect(server.identity.dnsNames == ["localhost", "source.example"])
        #expect(server.identity.uris == ["spiffe://example/source"])
        #expect(server.identity.addresses == ["127.0.0.1", "0:0:0:0:0:0:0:1"])
        #expect(server.identity.fingerprint.count == 32)
        let client = try TLSContext.client(TLSFiles(directory: folder, role: .client))
        #expect(client.identity.description == "destination.example")
    }

    @Test func aCertificateBetweenIsTakenFromTheChain() throws {
        _ = try TLSContext.client(TLSFiles(directory: Files.path("chained"), role: .client))
    }

    @Test func aListOfThePresentIsTaken() throws {
        _ = try TLSContext.client(Files.client(revocations: "crl.pem"))
    }

    @Test(arguments: [0o640, 0o604, 0o620, 0o602, 0o610] as [UInt32])
    func aKeyThatOthersMayTouchIsExposedWhoeverRunsThis(_ mode: UInt32) throws {
        let scratch = try Scratch("exposed")
        var files = try Files.client()
        files.key = scratch.file("key.pem")
        try writeFile(files.key, readText(Files.path("client-key.pem")))
        try changeMode(files.key, mode)
        let error = try #require(throws: TLSError.self) { try TLSContext.client(files) }
        #expect(error.code == .exposed, "\(error)")
        try changeMode(files.key, 0o600)
        _ = try TLSContext.client(files)
    }

    @Test func aFileThatNobodyMayReadIsUnreadableEvenForRoot() throws {
        let scratch = try Scratch("unreadable")
        for name in ["ca-cert.pem", "client-cert.pem", "client-key.pem"] {
            var files = try Files.client()
            let path = scratch.file(name)
            try writeFile(path, readText(Files.path(name)))
            try changeMode(path, 0)
            switch name {
            case "ca-cert.pem": files.authority = path
            case "client-cert.pem": files.certificate = path
            default: files.key = path
            }
            let error = try #require(throws: TLSError.self) { try TLSContext.client(files) }
            #expect(error.code == .unreadable, "\(error)")
            #expect(error.exitCode == 77)
            #expect(error.message.contains(path))
        }
    }

    @Test func aFIFOIsRefusedInsteadOfWaitedFor() throws {
        let path = try Scratch("fifo").file("key.pem")
        #expect(unsafe mkfifo(path, 0o600) == 0)
        var files = try Files.client()
        files.key = path
        let error = try #require(throws: TLSError.self) { try TLSContext.client(files) }
        #expect(error.code == .notAFile, "\(error)")
    }

    @Test func aFileThatIsFarTooLargeIsNotReadWhole() throws {
        let path = try Scratch("large").file("cert.pem")
        try writeFile(path, bytes: [UInt8](repeating: 0x41, count: 2 << 20))
        var files = try Files.client()
        files.certificate = path
        let error = try #require(throws: TLSError.self) { try TLSContext.client(files) }
        #expect(error.code == .malformed, "\(error)")
        #expect(error.message.contains("larger"))
    }

    @Test(arguments: [
        "", "hello\n", "-----BEGIN CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ])
    func rubbishIsMalformed(_ text: String) throws {
        let path = try Scratch("rubbish").file("file.pem")
        try writeFile(path, text, mode: 0o600)
        for wrong in [
            Case(testDescription: "", code: .malformed, exitCode: 65, authority: path, names: path),
            Case(testDescription: "", code: .malformed, exitCode: 65, certificate: path, names: path),
            Case(testDescription: "", code: .malformed, exitCode: 65, key: path, names: path),
            Case(testDescription: "", code: .malformed, exitCode: 65, revocations: path, names: path),
        ] {
            let error = try #require(throws: TLSError.self) { try load(wrong) }
            #expect(error.code == .malformed, "\(error)")
        }
    }

    @Test func aGoodCertificateFollowedByABrokenOneIsMalformed() throws {
        let path = try Scratch("second").file("ca.pem")
        try writeFile(path, readText(Files.path("ca-cert.pem")) + readText(Files.path("broken-cert.pem")))
        var files = try Files.client()
        files.authority = path
        let error = try #require(throws: TLSError.self) { try TLSContext.client(files) }
        #expect(error.code == .malformed, "\(error)")
    }

    @Test func singleFilesGoOverThoseOfTheFolder() throws {
        let files = try TLSFiles(
            directory: "/d",
            role: .client,
            authority: nil,
            certificate: "/other/cert.pem",
            key: nil,
            revocations: "/crl.pem"
        )
        #expect(
            files
                == TLSFiles(
                    authority: "/d/ca-cert.pem",
                    certificate: "/other/cert.pem",
                    key: "/d/client-key.pem",
                    revocations: "/crl.pem"
                )
        )
    }

    @Test func withoutFilesThereIsNoWayOn() throws {
        let error = try #require(throws: TLSError.self) {
            try TLSFiles(
                directory: nil,
                role: .server,
                authority: "/ca",
                certificate: "/cert",
                key: nil,
                revocations: nil
            )
        }
        #expect(error.code == .notConfigured)
        #expect(error.exitCode == 64)
        #expect(error.description.contains("--tls-key"))
    }

    private func load(_ wrong: Case) throws -> TLSContext {
        let folder = try BadCertificates.directory()
        func path(_ name: String) -> String { name.hasPrefix("/") ? name : "\(folder)/\(name)" }
        let files = TLSFiles(
            authority: path(wrong.authority),
            certificate: path(wrong.certificate),
            key: path(wrong.key),
            revocations: wrong.revocations.map(path)
        )
        switch wrong.role {
        case .server: return try TLSContext.server(files, allowing: .anyCertified)
        case .client: return try TLSContext.client(files)
        }
    }

    private func changeMode(_ path: String, _ mode: UInt32) throws {
        guard unsafe chmod(path, mode) == 0 else { throw TestFailure("chmod \(path)") }
    }
}
