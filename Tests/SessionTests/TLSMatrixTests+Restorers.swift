// SPDX-License-Identifier: Apache-2.0
import Reporting
import Testing

// Wrong restorers.
extension TLSMatrixTests {
    /// A restorer that must not be served.
    struct WrongRestorer: CustomTestStringConvertible, Sendable {
        let testDescription: String
        /// Prefix of certificate and key below the folder of bad certificates; nil shows none.
        var identity: String?
        /// Prefix of the key, where it lies elsewhere.
        var key: String?
        var version = "-tls1_3"
        // Of the page server.
        var folder = ""
        var revocations: String?
        var allow: [String] = []

        /// How our restorer ends with these files, and what it says; nil when it cannot be made to.
        var ends: (code: ExitCode, words: String)?
        /// What the page server says of the one that keeps no rule.
        let refusal: String
        /// The alert that this one gets, see RFC 8446, section 6.
        let alert: Int
    }

    static let wrongRestorers: [WrongRestorer] = [
        WrongRestorer(
            testDescription: "no certificate",
            refusal: "has shown no certificate",
            alert: 116
        ),
        WrongRestorer(
            testDescription: "another authority",
            identity: "foreign/client",
            ends: (.badInput, foreign),
            refusal: "was not issued by our CA",
            alert: 48
        ),
        WrongRestorer(
            testDescription: "self-signed",
            identity: "self-signed-client",
            ends: (.badInput, foreign),
            refusal: "is self-signed",
            alert: 48
        ),
        WrongRestorer(
            testDescription: "certificate between is missing",
            identity: "chained/between/client",
            key: "chained/client",
            folder: "/chained",
            ends: (.badInput, foreign),
            refusal: "was not issued by our CA",
            alert: 48
        ),
        WrongRestorer(
            testDescription: "the authority's own",
            identity: "ca",
            ends: (.badInput, purpose),
            refusal: purpose,
            alert: 43
        ),
        WrongRestorer(
            testDescription: "expired",
            identity: "expired-client",
            ends: (.badInput, "has expired on 2021-01-01"),
            refusal: "has expired",
            alert: 45
        ),
        WrongRestorer(
            testDescription: "not yet valid",
            identity: "future-client",
            ends: (.badInput, "is not valid before 2090-01-01"),
            refusal: "is not valid yet",
            alert: 42
        ),
        WrongRestorer(
            testDescription: "revoked",
            identity: "revoked-client",
            revocations: "crl.pem",
            // Its own side has no list.
            ends: (.peer, "our certificate is on its revocation list"),
            refusal: "is revoked",
            alert: 44
        ),
        WrongRestorer(
            testDescription: "a page server's",
            identity: "server",
            ends: (.badInput, purpose),
            refusal: purpose,
            alert: 43
        ),
        WrongRestorer(
            testDescription: "wrong key usage",
            identity: "wrong-usage-client",
            ends: (.badInput, purpose),
            refusal: purpose,
            alert: 43
        ),
        WrongRestorer(
            testDescription: "extended key usage any",
            identity: "any-purpose-client",
            ends: (.badInput, purpose),
            refusal: purpose,
            alert: 43
        ),
        WrongRestorer(
            testDescription: "no extended key usage",
            identity: "purpose-free-client",
            ends: (.badInput, purpose),
            refusal: purpose,
            alert: 43
        ),
        WrongRestorer(
            testDescription: "weak key",
            identity: "weak-client",
            ends: (.badInput, "cannot be used"),
            refusal: "key too weak",
            alert: 42
        ),
        WrongRestorer(
            testDescription: "SHA-1",
            identity: "sha1-client",
            ends: (.badInput, "cannot be used"),
            refusal: "too weak",
            alert: 42
        ),
        WrongRestorer(
            testDescription: "key of another",
            identity: "client",
            key: "server",
            ends: (.badInput, "does not belong"),
            refusal: "has shown no certificate",
            alert: 116
        ),
        WrongRestorer(
            testDescription: "DNS name not allowed",
            identity: "client",
            allow: ["other.example"],
            ends: (.peer, "our certificate is not on its allow list"),
            refusal:
                "none of its names is on the allow list: \"destination.example\", \"spiffe://example/destination\"",
            alert: 40
        ),
        WrongRestorer(
            testDescription: "URI not allowed",
            identity: "uri-client",
            allow: ["other.example", "spiffe://example/only/"],
            ends: (.peer, "our certificate is not on its allow list"),
            refusal: "none of its names is on the allow list: \"spiffe://example/only\"",
            alert: 40
        ),
        WrongRestorer(
            testDescription: "an address is no name to allow",
            identity: "ip-client",
            allow: ["other.example", "192.0.2.7"],
            ends: (.peer, "our certificate is not on its allow list"),
            refusal: "none of its names is on the allow list: \"192.0.2.7\"",
            alert: 40
        ),
        WrongRestorer(
            testDescription: "common name only",
            identity: "nameless-client",
            allow: ["other.example", "nameless-client"],
            ends: (.peer, "our certificate is not on its allow list"),
            refusal: "none of its names is on the allow list: no name",
            alert: 40
        ),
        WrongRestorer(
            testDescription: "TLS 1.2",
            identity: "client",
            version: "-tls1_2",
            refusal: "does not speak TLS 1.3",
            alert: 70
        ),
    ]
}
