// SPDX-License-Identifier: Apache-2.0
internal import COpenSSL

extension TLSError {
    /// OpenSSL failed where it should not, for want of memory as a rule.
    init(library call: String, _ failure: OpenSSLFailure = .drain()) {
        self.init(.library, "\(call) failed", details: failure.texts)
    }

    /// OpenSSL does not take a certificate or key that fit together: too weak, or of an odd kind.
    init(library call: String, _ failure: OpenSSLFailure, weak path: String) {
        self.init(
            .malformed,
            "The certificate \"\(path)\" cannot be used",
            remedy: "Use ECDSA P-256 or RSA of 2048 bits or more, with SHA-256 or better",
            details: failure.texts
        )
    }

    /// What X509_verify_cert(3) says about the certificate of this side.
    init(own result: Int, _ files: TLSFiles) {
        let words = Self.words(result)
        let certificate = "The certificate \"\(files.certificate)\""
        switch Int32(result) {
        case X509_V_ERR_CERT_HAS_EXPIRED:
            self.init(
                .expired,
                "A CA certificate in \"\(files.authority)\" has expired",
                remedy: "Renew the CA certificate"
            )
        case X509_V_ERR_CERT_NOT_YET_VALID:
            self.init(
                .notYetValid,
                "A CA certificate in \"\(files.authority)\" is not valid yet",
                remedy: "Check this machine's clock"
            )
        case X509_V_ERR_CERT_REVOKED:
            self.init(.revoked, "\(certificate) is revoked", remedy: "Issue a new key and certificate")
        case X509_V_ERR_UNABLE_TO_GET_CRL, X509_V_ERR_CRL_SIGNATURE_FAILURE, X509_V_ERR_CRL_NOT_YET_VALID,
            X509_V_ERR_CRL_HAS_EXPIRED, X509_V_ERR_DIFFERENT_CRL_SCOPE, X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
            self.init(
                .staleRevocations,
                "The revocation list \"\(files.revocations ?? "")\" does not tell about \"\(files.certificate)\"",
                remedy: "Give a present list of the CA in \"\(files.authority)\"",
                details: [words]
            )
        case X509_V_ERR_INVALID_PURPOSE:
            self.init(
                .wrongPurpose,
                "\(certificate) is not made for this role",
                remedy: "A page server needs extended key usage serverAuth, a restorer clientAuth",
                details: [words]
            )
        case X509_V_ERR_EE_KEY_TOO_SMALL, X509_V_ERR_CA_KEY_TOO_SMALL, X509_V_ERR_CA_MD_TOO_WEAK:
            self.init(library: "X509_verify_cert", OpenSSLFailure(numbers: []), weak: files.certificate)
        default:
            self.init(
                .untrusted,
                "\(certificate) was not issued by the CA in \"\(files.authority)\"",
                remedy: "Give the files that were made together, and the certificates between if there are any",
                details: [words]
            )
        }
    }

    /// What verification says about the certificate of the other side.
    init(peer result: Int, _ peer: PeerIdentity?, expected: String?) {
        let words = Self.words(result)
        let who = peer.map { "The certificate of the other side (\($0.listed))" } ?? "The certificate of the other side"
        switch Int32(result) {
        case X509_V_ERR_CERT_HAS_EXPIRED:
            self.init(
                .peerExpired,
                "\(who), or of its CA, has expired",
                remedy: "Renew it, or check this machine's clock"
            )
        case X509_V_ERR_CERT_NOT_YET_VALID:
            self.init(.peerNotYetValid, "\(who) is not valid yet", remedy: "Check the clocks of both machines")
        case X509_V_ERR_CERT_REVOKED:
            self.init(.peerRevoked, "\(who) is revoked", remedy: "Issue a new key and certificate for that side")
        case X509_V_ERR_UNABLE_TO_GET_CRL, X509_V_ERR_CRL_SIGNATURE_FAILURE, X509_V_ERR_CRL_NOT_YET_VALID,
            X509_V_ERR_CRL_HAS_EXPIRED, X509_V_ERR_DIFFERENT_CRL_SCOPE, X509_V_ERR_UNABLE_TO_GET_CRL_ISSUER:
            self.init(
                .peerRevocationUnknown,
                "Our revocation list does not tell about the certificate of the other side",
                remedy: "Give a present list of each CA with --tls-cacrl",
                details: [words]
            )
        case X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH:
            self.init(
                .peerNameMismatch,
                "\(who) is not for \"\(PeerIdentity.printable(expected ?? ""))\"",
                remedy: "Give one of its names with --server-name, if that is whom you mean"
            )
        case X509_V_ERR_INVALID_PURPOSE:
            self.init(.peerWrongPurpose, "\(who) is not made for its role", details: [words])
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
            self.init(.peerSelfSigned, "\(who) is self-signed", remedy: "Issue one by the CA that both sides trust")
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
            X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
            X509_V_ERR_CERT_SIGNATURE_FAILURE, X509_V_ERR_INVALID_CA:
            self.init(
                .peerUntrusted,
                "\(who) was not issued by our CA",
                remedy: "Both sides need certificates of one CA and its ca-cert.pem",
                details: [words]
            )
        default:
            self.init(.peerRejected, "\(who) is not accepted: \(words)")
        }
    }

    /// The other side has sent a fatal alert.
    init(alert: Int32, _ failure: OpenSSLFailure) {
        let (reason, remedy): (String, String?) =
            switch alert {
            case SSL_AD_CERTIFICATE_REQUIRED: ("it has seen no certificate from us", nil)
            case SSL_AD_UNKNOWN_CA:
                ("our certificate was not issued by its CA", "Both sides need certificates of one CA")
            case SSL_AD_CERTIFICATE_EXPIRED:
                ("our certificate has expired by its clock", "Renew it, or check the clocks")
            case SSL_AD_CERTIFICATE_REVOKED:
                ("our certificate is on its revocation list", "Issue a new key and certificate")
            case SSL_AD_HANDSHAKE_FAILURE, SSL_AD_ACCESS_DENIED:
                (
                    "our certificate is not on its allow list",
                    "Look at --allow over there, and at the names in our certificate"
                )
            case SSL_AD_UNSUPPORTED_CERTIFICATE:
                ("our certificate is not made for this role", "A page server needs serverAuth, a restorer clientAuth")
            case SSL_AD_BAD_CERTIFICATE, SSL_AD_CERTIFICATE_UNKNOWN:
                ("it does not accept our certificate", "Its log tells the reason")
            case SSL_AD_PROTOCOL_VERSION: ("it does not speak TLS 1.3", nil)
            default: ("alert \(alert)", "Its log tells the reason")
            }
        let code: Code = alert == SSL_AD_PROTOCOL_VERSION ? .versionMismatch : .rejectedByPeer
        self.init(code, "The other side refuses us: \(reason)", remedy: remedy, details: failure.texts)
    }

    /// OpenSSL's words for a result of verification.
    private static func words(_ result: Int) -> String {
        // SAFETY: a constant string of the library.
        unsafe String(cString: X509_verify_cert_error_string(result))
    }
}
