// SPDX-License-Identifier: Apache-2.0
public import TLSSession

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

extension TLSFiles {
    /// What a command line says.
    ///
    /// - Throws: `TLSError` with `notConfigured` when a file is not named at all.
    public init(_ location: TLSLocation, role: Role) throws(TLSError) {
        try self.init(
            directory: location.directory,
            role: role,
            authority: location.authority,
            certificate: location.certificate,
            key: location.key,
            revocations: location.revocations
        )
    }
}
