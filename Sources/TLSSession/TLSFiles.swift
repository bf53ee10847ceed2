// SPDX-License-Identifier: Apache-2.0

/// The files by which one side proves who it is and recognises the other.
public struct TLSFiles: Hashable, Sendable {
    /// The side of a connection.
    public enum Role: Hashable, Sendable {
        /// Listens: the page server.
        case server
        /// Connects: the restorer.
        case client
    }

    /// Certificates of the CA (PEM), the only ones that are trusted.
    public var authority: String
    /// Certificate of this side (PEM), followed by those between it and the CA, if any.
    public var certificate: String
    /// Private key of this side (PEM, without password, mode 0600 or less).
    public var key: String
    /// Revocation lists (PEM), one of each CA.
    public var revocations: String?

    /// Names each file.
    public init(authority: String, certificate: String, key: String, revocations: String? = nil) {
        self.authority = authority
        self.certificate = certificate
        self.key = key
        self.revocations = revocations
    }

    /// The files of a folder under their usual names: `ca-cert.pem`, and `server-cert.pem` and `server-key.pem` or `client-cert.pem` and
    /// `client-key.pem`.
    public init(directory: String, role: Role) {
        let name = role == .server ? "server" : "client"
        self.init(
            authority: "\(directory)/ca-cert.pem",
            certificate: "\(directory)/\(name)-cert.pem",
            key: "\(directory)/\(name)-key.pem"
        )
    }

    /// What a command line says: single files go over those of the folder.
    ///
    /// - Parameters:
    ///   - directory: `--tls-dir`.
    ///   - role: which names the files have in the folder.
    ///   - authority: `--tls-cacert`.
    ///   - certificate: `--tls-cert`.
    ///   - key: `--tls-key`.
    ///   - revocations: `--tls-cacrl`.
    /// - Throws: ``TLSError`` with `notConfigured` when a file is not named at all.
    public init(
        directory: String?,
        role: Role,
        authority: String?,
        certificate: String?,
        key: String?,
        revocations: String?
    ) throws(TLSError) {
        let usual = directory.map { TLSFiles(directory: $0, role: role) }
        guard let authority = authority ?? usual?.authority else {
            throw Self.notNamed("CA certificate", "--tls-cacert")
        }
        guard let certificate = certificate ?? usual?.certificate else {
            throw Self.notNamed("certificate", "--tls-cert")
        }
        guard let key = key ?? usual?.key else { throw Self.notNamed("private key", "--tls-key") }
        self.init(authority: authority, certificate: certificate, key: key, revocations: revocations)
    }

    private static func notNamed(_ what: String, _ option: String) -> TLSError {
        TLSError(
            .notConfigured,
            "No \(what) was given, and there is no way to go without",
            remedy: "Give --tls-dir, or \(option); certs/make-certs makes a folder to start with"
        )
    }
}
