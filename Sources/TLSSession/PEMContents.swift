// SPDX-License-Identifier: Apache-2.0

/// What PEM files hold that are not files, for those who test how they are read.
package enum PEMContents {
    /// Who the certificates are of.
    package static func certificates(_ bytes: [UInt8]) throws(TLSError) -> [PeerIdentity] {
        let certificates = try PEMFile(bytes, kind: "certificate").certificates()
        return certificates.map { certificate in
            _ = [certificate.subject, certificate.notBefore, certificate.notAfter]
            _ = certificate.isExpired || certificate.isNotYetValid
            // SAFETY: the certificate lives as long as its object, which is kept meanwhile.
            return unsafe PeerIdentity(certificate: certificate.handle)
        }
    }

    /// How many revocation lists there are.
    package static func countRevocations(_ bytes: [UInt8]) throws(TLSError) -> Int {
        let lists = try PEMFile(bytes, kind: "certificate revocation list").revocations()
        return lists.count { $0.overdue == nil } + lists.count { $0.overdue != nil }
    }

    /// Reads a private key.
    package static func checkPrivateKey(_ bytes: [UInt8]) throws(TLSError) {
        _ = try PEMFile(bytes, kind: "private key").privateKey()
    }
}
