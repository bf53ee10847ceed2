// SPDX-License-Identifier: Apache-2.0
internal import TLSSession
internal import Testing

@Suite("Allow list")
struct AllowListTests {
    private let peer = PeerIdentity(
        dnsNames: ["Destination.Example", "*.wild.example"],
        uris: ["spiffe://example/restorer"],
        addresses: ["192.0.2.1"],
        commonName: "common.example"
    )

    @Test(arguments: [
        "destination.example", "DESTINATION.EXAMPLE", "destination.example.", "*.wild.example",
        "spiffe://example/restorer",
    ])
    func aNameOfTheCertificateIsAccepted(_ name: String) throws {
        #expect(try AllowList(["other.example", name]).accepts(peer))
    }

    @Test(arguments: [
        "example", "estination.example", "destination.example.org", "a.destination.example", "one.wild.example",
        "spiffe://example/restorer/", "spiffe://example/", "SPIFFE://example/restorer", "common.example", "192.0.2.1",
        "URI:spiffe://example/restorer",
    ])
    func whatTheCertificateDoesNotCarryIsNotAccepted(_ name: String) throws {
        #expect(try !AllowList([name]).accepts(peer))
    }

    @Test func withoutNamesEveryCertifiedPeerIsAccepted() throws {
        #expect(try AllowList([]).accepts(peer))
        #expect(AllowList.anyCertified.accepts(PeerIdentity(dnsNames: [])))
    }

    @Test func aPeerWithoutNamesIsNotOnAnyList() throws {
        #expect(
            try !AllowList(["destination.example"]).accepts(
                PeerIdentity(dnsNames: [""], commonName: "destination.example")
            )
        )
    }

    @Test func lettersThatUnicodeTakesForTheSameAreDifferent() throws {
        // KELVIN SIGN is canonically equivalent to K.
        let lookalike = PeerIdentity(dnsNames: ["\u{212A}elvin.example"], uris: ["spiffe://example/\u{212A}"])
        #expect(try !AllowList(["kelvin.example", "spiffe://example/K"]).accepts(lookalike))
    }

    @Test(arguments: ["", " ", "a b", "name\n", "n\u{e4}me.example", "nul\0.example"])
    func whatCannotBeANameIsAnError(_ name: String) {
        let error = #expect(throws: TLSError.self) { try AllowList([name]) }
        #expect(error?.code == .badName)
        #expect(error?.exitCode == 64)
    }

    @Test func namesAreShownWithoutControlCharacters() {
        let peer = PeerIdentity(dnsNames: ["evil\u{1b}[2J\nname\"\\"])
        #expect(peer.description == "evil\\x1b[2J\\x0aname\\x22\\x5c")
    }
}
