// SPDX-License-Identifier: Apache-2.0

/// Where certificates and keys are (`--tls-dir`, `--tls-cacert`, `--tls-cacrl`, `--tls-cert`, `--tls-key`).
public struct TLSLocation: Sendable, Equatable {
    /// Folder with `ca-cert.pem`, `server-cert.pem`, `server-key.pem`, `client-cert.pem`, `client-key.pem`.
    public var directory: String?
    /// Certificate of the authority, over the folder's.
    public var authority: String?
    /// Revocation list of the authority.
    public var revocations: String?
    /// Own certificate, over the folder's.
    public var certificate: String?
    /// Key of the own certificate, over the folder's.
    public var key: String?

    /// Everything in one folder.
    public init(directory: String? = nil) {
        self.directory = directory
    }
}
