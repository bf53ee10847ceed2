// SPDX-License-Identifier: Apache-2.0
import Reporting
import Testing

// Wrong page servers.
extension TLSMatrixTests {
    /// A page server that must not be trusted.
    struct WrongPageServer: CustomTestStringConvertible, Sendable {
        let testDescription: String
        /// Prefix of certificate and key below the folder of bad certificates; nil shows none.
        var identity: String?
        var key: String?
        var version = "-tls1_3"
        // Of the restorer.
        var folder = ""
        var revocations: String?
        var name = "localhost"

        /// How our page server ends with these files, and what it says; nil when nothing is wrong with them.
        var ends: (code: ExitCode, words: String)?
        /// What the restorer says of the one that keeps no rule.
        let refusal: String
        /// The alert that this one gets; nil when it is the one to send an alert.
        var alert: Int?
    }

    static let wrongPageServers: [WrongPageServer] = [
        WrongPageServer(
            testDescription: "no certificate",
            refusal: "it does not"
        ),
        WrongPageServer(
            testDescription: "another authority",
            identity: "foreign/server",
            ends: (.badInput, foreign),
            refusal: "was not issued by our CA",
            alert: 48
        ),
        WrongPageServer(
            testDescription: "self-signed",
            identity: "self-signed-server",
            ends: (.badInput, foreign),
            refusal: "is self-signed",
            alert: 48
        ),
        WrongPageServer(
            testDescription: "certificate between is missing",
            identity: "chained/between/server",
            folder: "/chained",
            ends: (.badInput, foreign),
            refusal: "was not issued by our CA",
            alert: 48
        ),
        WrongPageServer(
            testDescription: "expired",
            identity: "expired-server",
            ends: (.badInput, "has expired on 2021-01-01"),
            refusal: "has expired",
            alert: 45
        ),
        WrongPageServer(
            testDescription: "not yet valid",
            identity: "future-server",
            ends: (.badInput, "is not valid before 2090-01-01"),
            refusal: "is not valid yet",
            alert: 42
        ),
        WrongPageServer(
            testDescription: "revoked",
            identity: "revoked-server",
            revocations: "crl.pem",
            ends: (.badInput, "is revoked"),
            refusal: "is revoked",
            alert: 44
        ),
        WrongPageServer(
            testDescription: "the authority's own",
            identity: "ca",
            ends: (.badInput, purpose),
            refusal: purpose,
            alert: 43
        ),
        WrongPageServer(
            testDescription: "a restorer's",
            identity: "client",
            name: "destination.example",
            ends: (.badInput, purpose),
            refusal: purpose,
            alert: 43
        ),
        WrongPageServer(
            testDescription: "wrong key usage",
            identity: "wrong-usage-server",
            ends: (.badInput, purpose),
            refusal: purpose,
            alert: 43
        ),
        WrongPageServer(
            testDescription: "extended key usage any",
            identity: "any-purpose-server",
            ends: (.badInput, purpose),
            refusal: purpose,
            alert: 43
        ),
        WrongPageServer(
            testDescription: "no extended key usage",
            identity: "purpose-free-server",
            ends: (.badInput, purpose),
            refusal: purpose,
            alert: 43
        ),
        WrongPageServer(
            testDescription: "weak key",
            identity: "weak-server",
            ends: (.badInput, "cannot be used"),
            refusal: "key too weak",
            alert: 42
        ),
        WrongPageServer(
            testDescription: "SHA-1",
            identity: "sha1-server",
            ends: (.badInput, "cannot be used"),
            refusal: "too weak",
            alert: 42
        ),
        WrongPageServer(
            testDescription: "another DNS name",
            identity: "other-name-server",
            name: "source.example",
            refusal: "(\"elsewhere.example\", \"192.0.2.1\") is not for \"source.example\"",
            alert: 42
        ),
        WrongPageServer(
            testDescription: "another address",
            identity: "other-name-server",
            name: "127.0.0.1",
            refusal: "(\"elsewhere.example\", \"192.0.2.1\") is not for \"127.0.0.1\"",
            alert: 42
        ),
        WrongPageServer(
            testDescription: "another URI",
            identity: "server",
            name: "spiffe://example/other",
            refusal: "is not for \"spiffe://example/other\"",
            alert: 42
        ),
        WrongPageServer(
            testDescription: "common name only",
            identity: "nameless-server",
            name: "nameless-server",
            refusal: "(no name) is not for \"nameless-server\"",
            alert: 42
        ),
        WrongPageServer(
            testDescription: "a star for two labels",
            identity: "star-server",
            name: "a.b.wild.example",
            refusal: "(\"*.wild.example\") is not for \"a.b.wild.example\"",
            alert: 42
        ),
        WrongPageServer(
            testDescription: "TLS 1.2",
            identity: "server",
            version: "-tls1_2",
            refusal: "does not speak TLS 1.3"
        ),
    ]
}
