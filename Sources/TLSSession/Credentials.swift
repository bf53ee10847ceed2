// SPDX-License-Identifier: Apache-2.0
internal import COpenSSL
internal import LinuxSystem

/// A certificate of OpenSSL with one owner.
@safe
final class Certificate {
    let handle: OpaquePointer

    /// Takes over an `X509 *`.
    init(adopting handle: OpaquePointer) {
        unsafe self.handle = handle
    }

    deinit {
        // SAFETY: this object's own reference.
        unsafe X509_free(handle)
    }

    /// The subject on one line, printable.
    var subject: String {
        // SAFETY: the name belongs to the certificate, which lives; the text is this function's and freed.
        guard let text = unsafe X509_NAME_oneline(X509_get_subject_name(handle), nil, 0) else { return "?" }
        defer { unsafe CRYPTO_free(text, nil, 0) }
        return PeerIdentity.printable(unsafe String(cString: text))
    }

    /// End of validity as text.
    var notAfter: String { unsafe Self.text(X509_get0_notAfter(handle)) }

    /// Start of validity as text.
    var notBefore: String { unsafe Self.text(X509_get0_notBefore(handle)) }

    /// Where the present moment lies.
    var isExpired: Bool { unsafe X509_cmp_current_time(X509_get0_notAfter(handle)) < 0 }

    /// Where the present moment lies.
    var isNotYetValid: Bool { unsafe X509_cmp_current_time(X509_get0_notBefore(handle)) > 0 }

    /// Whether a certificate names the extended key usage of its role.
    ///
    /// X509_verify_cert(3) lets one without any extended key usage pass for every role.
    @unsafe
    static func isMade(_ certificate: OpaquePointer, for role: TLSFiles.Role) -> Bool {
        // SAFETY: the caller keeps the certificate.
        let usages = unsafe X509_get_extended_key_usage(certificate)
        return usages != .max && usages & UInt32(role == .server ? XKU_SSL_SERVER : XKU_SSL_CLIENT) != 0
    }

    /// `2026-01-31 12:00:00 UTC`.
    @unsafe
    static func text(_ time: UnsafePointer<ASN1_TIME>?) -> String {
        var parts = unsafe tm()
        // SAFETY: the time belongs to an object that the caller keeps; the structure lives during the call.
        guard unsafe ASN1_TIME_to_tm(time, &parts) == 1 else { return "an unknown time" }
        let numbers = unsafe [parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec]
        let two = numbers.map { ($0 < 10 ? "0" : "") + "\($0)" }
        return "\(unsafe parts.tm_year + 1900)-\(two[0])-\(two[1]) \(two[2]):\(two[3]):\(two[4]) UTC"
    }
}

/// A private key of OpenSSL with one owner.
@safe
final class PrivateKey {
    let handle: OpaquePointer

    /// Takes over an `EVP_PKEY *`.
    init(adopting handle: OpaquePointer) {
        unsafe self.handle = handle
    }

    deinit {
        // SAFETY: this object's own reference.
        unsafe EVP_PKEY_free(handle)
    }
}

/// A revocation list of OpenSSL with one owner.
@safe
final class RevocationList {
    let handle: OpaquePointer

    /// Takes over an `X509_CRL *`.
    init(adopting handle: OpaquePointer) {
        unsafe self.handle = handle
    }

    deinit {
        // SAFETY: this object's own reference.
        unsafe X509_CRL_free(handle)
    }

    /// When the next list was due, if it is overdue.
    var overdue: String? {
        // SAFETY: the time belongs to the list, which lives.
        guard let next = unsafe X509_CRL_get0_nextUpdate(handle), unsafe X509_cmp_current_time(next) < 0 else {
            return nil
        }
        return unsafe Certificate.text(next)
    }
}

/// What the files of one side hold, before it is known whether they fit together.
struct Credentials {
    let files: TLSFiles
    let authorities: [Certificate]
    /// Certificate of this side first, then those between it and the CA.
    let chain: [Certificate]
    let key: PrivateKey
    let revocations: [RevocationList]

    /// Reads all files.
    init(_ files: TLSFiles) throws(TLSError) {
        self.files = files
        authorities = try PEMFile(files.authority, kind: "CA certificate").certificates()
        chain = try PEMFile(files.certificate, kind: "certificate").certificates()
        key = try PEMFile(files.key, kind: "private key").privateKey()
        revocations =
            if let path = files.revocations {
                try PEMFile(path, kind: "certificate revocation list").revocations()
            } else {
                []
            }
    }
}

/// One file that was read, with what it is for.
struct PEMFile {
    /// Certificates and lists of a private CA are far smaller.
    static let limit = 1 << 20

    let path: String
    let kind: String
    private let bytes: [UInt8]

    /// What was read elsewhere.
    init(_ bytes: [UInt8], kind: String) {
        _ = OpenSSLLibrary.isReady
        path = ""
        self.kind = kind
        self.bytes = bytes
    }

    /// Reads a file, which others must not be able to read or change when it is the private key.
    init(_ path: String, kind: String) throws(TLSError) {
        _ = OpenSSLLibrary.isReady
        self.path = path
        self.kind = kind
        let status: FileStatus
        do {
            // Before it is opened: opening a FIFO would wait.
            status = try FileStatus(path: path)
        } catch {
            throw Self.cannotRead(path, kind, error)
        }
        guard status.kind == .regular else {
            throw TLSError(
                .notAFile,
                "The \(kind) \"\(path)\" is not a regular file",
                remedy: "Give the path of a PEM file"
            )
        }
        // Root could read it all the same, but nobody was meant to.
        guard status.permissions & 0o444 != 0 else {
            throw TLSError(
                .unreadable,
                "The \(kind) \"\(path)\" may be read by nobody (mode \(Self.octal(status.permissions)))",
                remedy: "Allow its owner to read it: chmod u+r"
            )
        }
        do {
            bytes = try FileReading.read(path, limit: Self.limit)
        } catch {
            throw Self.cannotRead(path, kind, error)
        }
        if kind == "private key" { try Self.checkPrivate(path, status) }
    }

    private static func checkPrivate(_ path: String, _ status: FileStatus) throws(TLSError) {
        guard status.permissions & 0o077 == 0 else {
            throw TLSError(
                .exposed,
                "The private key \"\(path)\" is open to others than its owner (mode \(octal(status.permissions)))",
                remedy: "Close it: chmod 600; if somebody may have read it, make a new key and certificate"
            )
        }
    }

    private static func cannotRead(_ path: String, _ kind: String, _ error: SystemCallError) -> TLSError {
        switch error.errno {
        case .noEntry, .notDirectory:
            TLSError(
                .missing,
                "The \(kind) \"\(path)\" does not exist",
                remedy: "Check --tls-dir and the --tls options"
            )
        case .access, .perm:
            TLSError(
                .unreadable,
                "The \(kind) \"\(path)\" may not be read by this user",
                remedy: "Check owner and mode"
            )
        case let other where other.rawValue == 27:
            TLSError(.malformed, "The \(kind) \"\(path)\" is larger than 1 MiB", remedy: "Give a PEM file")
        default:
            TLSError(.unreadable, "The \(kind) \"\(path)\" cannot be read", cause: error)
        }
    }

    private static func octal(_ permissions: UInt32) -> String {
        let digits = String(permissions, radix: 8)
        return String(repeating: "0", count: max(0, 4 - digits.count)) + digits
    }

    /// All certificates of the file, at least one.
    func certificates() throws(TLSError) -> [Certificate] {
        let found = try unsafe all { bio in
            // SAFETY: the reader of the file's bytes lives during the call; no password is asked for.
            unsafe PEM_read_bio_X509(bio, nil, PEMFile.refusePassword, nil).map { unsafe Certificate(adopting: $0) }
        }
        guard !found.isEmpty else { throw malformed("BEGIN CERTIFICATE") }
        return found
    }

    /// All revocation lists of the file, at least one.
    func revocations() throws(TLSError) -> [RevocationList] {
        let found = try unsafe all { bio in
            // SAFETY: as in certificates().
            unsafe PEM_read_bio_X509_CRL(bio, nil, PEMFile.refusePassword, nil).map {
                unsafe RevocationList(adopting: $0)
            }
        }
        guard !found.isEmpty else { throw malformed("BEGIN X509 CRL") }
        return found
    }

    /// The private key of the file.
    func privateKey() throws(TLSError) -> PrivateKey {
        ERR_clear_error()
        let key = unsafe withReader { bio in
            // SAFETY: as in certificates().
            unsafe PEM_read_bio_PrivateKey(bio, nil, PEMFile.refusePassword, nil).map {
                unsafe PrivateKey(adopting: $0)
            }
        }
        let failure = OpenSSLFailure.drain()
        if let key { return key }
        if failure.numbers.contains(where: {
            ERR_GET_LIB($0) == ERR_LIB_PEM && ERR_GET_REASON($0) == PEM_R_BAD_PASSWORD_READ
        }) {
            throw TLSError(
                .encrypted,
                "The private key \"\(path)\" is encrypted with a password",
                remedy: "Give one without: openssl pkey -in \"\(path)\" -out plain-key.pem, mode 0600"
            )
        }
        throw malformed("BEGIN PRIVATE KEY", failure)
    }

    /// A password is never asked for: a server has no terminal, and a file that wants one is an error with a name.
    private static let refusePassword:
        @convention(c) (UnsafeMutablePointer<CChar>?, Int32, Int32, UnsafeMutableRawPointer?) -> Int32 =
            { _, _, _, _ in -1 }

    /// Reads one object after the other until there is no more; anything that begins and does not parse is an error.
    private func all<Object>(_ next: (OpaquePointer) -> Object?) throws(TLSError) -> [Object] {
        ERR_clear_error()
        var found: [Object] = []
        unsafe withReader { bio in
            // SAFETY: the BIO lives during the closure.
            while let object = unsafe next(bio) { found.append(object) }
        }
        let failure = OpenSSLFailure.drain()
        let end = failure.numbers.last.map {
            ERR_GET_LIB($0) == ERR_LIB_PEM && ERR_GET_REASON($0) == PEM_R_NO_START_LINE
        }
        guard end ?? false else { throw malformed("well-formed PEM", failure) }
        return found
    }

    private func withReader<Result>(_ body: (OpaquePointer) -> Result?) -> Result? {
        unsafe bytes.withUnsafeBytes { buffer in
            // SAFETY: the BIO reads the array's own memory, and is freed before the array can go.
            guard let bio = unsafe BIO_new_mem_buf(buffer.baseAddress, Int32(buffer.count)) else { return nil }
            defer { unsafe BIO_free(bio) }
            return unsafe body(bio)
        }
    }

    private func malformed(_ expected: String, _ failure: OpenSSLFailure? = nil) -> TLSError {
        TLSError(
            .malformed,
            "The \(kind) \"\(path)\" is not a PEM file with \(expected)",
            remedy: "Check that the right file was given and that it is whole",
            details: failure?.texts ?? []
        )
    }
}
