// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import TLSSession
internal import TestSupport
internal import Testing

@Suite("certs/make-certs", .serialized, .timeLimit(.minutes(5)))
struct MakeCertsTests {
    private static let all = [
        "ca", "ca-cert.pem", "ca-key.pem", "client-cert.pem", "client-key.pem", "server-cert.pem", "server-key.pem",
    ]

    @Test func aSetHasTheNamesAskedForAndKeysForTheirOwnerOnly() throws {
        let folder = try Scratch("certs").file("new/set")
        try run(
            ["--server-name", "source.example", "--server-name", "::1", "--client-name", "spiffe://example/d", folder]
        )
        #expect(try namesInFolder(folder) == Self.all)
        for name in Self.all where name.hasSuffix("-key.pem") {
            #expect(try FileStatus(path: "\(folder)/\(name)").permissions == 0o600)
        }
        let server = try TLSContext.server(TLSFiles(directory: folder, role: .server), allowing: .anyCertified)
        #expect(server.identity.names == ["source.example", "0:0:0:0:0:0:0:1"])
        let client = try TLSContext.client(TLSFiles(directory: folder, role: .client))
        #expect(client.identity.names == ["spiffe://example/d"])
        let ends = try Ends(server: server, client: client, serverName: "::1")
        #expect(drive(ends.server, ends.client) == (.complete, .complete))
    }

    @Test func nothingIsOverwritten() throws {
        let folder = try Scratch("again").path
        try run([folder])
        let before = try Self.all.filter { $0 != "ca" }.map { try readText("\(folder)/\($0)") }
        #expect(try failure([folder]).contains("nothing is overwritten"))
        // Not by halves either.
        let other = try Scratch("one").path
        try writeFile("\(other)/client-key.pem", "mine")
        #expect(try failure([other]).contains("client-key.pem"))
        #expect(try namesInFolder(other) == ["client-key.pem"])
        #expect(try Self.all.filter { $0 != "ca" }.map { try readText("\(folder)/\($0)") } == before)
    }

    @Test(arguments: [
        ["--server-name", "a b"], ["--client-name", "x, DNS:y"], ["--client-name", "x\nDNS.2 = y"],
        ["--client-name", ""],
        ["--days", "0"], ["--days", "x"], ["--days"], ["--unknown"], ["one", "two"],
    ])
    func wrongUseIsAnErrorAndMakesNothing(_ arguments: [String]) throws {
        let folder = try Scratch("wrong").file("set")
        #expect(try !failure(arguments + [folder], status: 64).isEmpty)
        #expect(!fileExists(folder))
    }

    @Test func theDocumentedCommandsRevoke() throws {
        let folder = try Scratch("revoke").path
        try run([folder])
        let openssl = try #require(Machine.program("openssl"))
        for command in [
            ["ca", "-config", "ca/openssl.cnf", "-revoke", "client-cert.pem"],
            ["ca", "-config", "ca/openssl.cnf", "-gencrl", "-out", "crl.pem"],
        ] {
            try withProcess(openssl, command, options: .init(output: .null, directory: folder)) { process in
                let ending = try process.waitForExit()
                #expect(ending == .exited(0), "\(process.report())")
            }
        }
        var files = TLSFiles(directory: folder, role: .client)
        files.revocations = "\(folder)/crl.pem"
        let error = #expect(throws: TLSError.self) { try TLSContext.client(files) }
        #expect(error?.code == .revoked)
        var server = TLSFiles(directory: folder, role: .server)
        server.revocations = "\(folder)/crl.pem"
        _ = try TLSContext.server(server, allowing: .anyCertified)
    }

    private func run(_ arguments: [String]) throws {
        try start(arguments) { process in
            let ending = try process.waitForExit()
            #expect(ending == .exited(0), "\(process.report())")
        }
    }

    private func failure(_ arguments: [String], status: Int32 = 1) throws -> String {
        try start(arguments) { process in
            let ending = try process.waitForExit()
            #expect(ending == .exited(status), "\(process.report())")
            return process.errors
        }
    }

    private func start<Result>(_ arguments: [String], _ body: (TestProcess) throws -> Result) throws -> Result {
        try withProcess("\(BuiltProduct.package)/certs/make-certs", arguments, options: .init(output: .null), body)
    }
}
