// SPDX-License-Identifier: Apache-2.0
internal import COpenSSL
internal import LinuxSystem

/// One side's certificates and rules, checked once and used by any number of connections and threads.
///
/// TLS 1.3 only, the other side must show a certificate of the CA; no tickets, early data, renegotiation or compression. There is no way to
/// switch any of it off.
@safe
public final class TLSContext: Sendable {
    /// Listens or connects.
    public let role: TLSFiles.Role
    /// Who this side is.
    public let identity: PeerIdentity
    /// Which peers are served; of a client ``AllowList/anyCertified``, whose peer has to carry the name asked for.
    public let allowList: AllowList

    // SAFETY of nonisolated(unsafe): an SSL_CTX counts its references atomically and is not changed after init; so is the method.
    nonisolated(unsafe) let handle: OpaquePointer
    nonisolated(unsafe) let socketMethod: OpaquePointer

    /// For a page server.
    ///
    /// - Parameters:
    ///   - files: certificates and key, all of which are read and checked now.
    ///   - allowList: which of the certified peers are served.
    /// - Returns: what each accepted connection is made from.
    /// - Throws: ``TLSError`` that names the file, what is wrong with it and the remedy.
    public static func server(_ files: TLSFiles, allowing allowList: AllowList) throws(TLSError) -> TLSContext {
        try TLSContext(role: .server, Credentials(files), allowList)
    }

    /// For a restorer.
    ///
    /// - Parameter files: certificates and key, all of which are read and checked now.
    /// - Returns: what each connection is made from.
    /// - Throws: ``TLSError`` that names the file, what is wrong with it and the remedy.
    public static func client(_ files: TLSFiles) throws(TLSError) -> TLSContext {
        try TLSContext(role: .client, Credentials(files), .anyCertified)
    }

    private init(role: TLSFiles.Role, _ credentials: Credentials, _ allowList: AllowList) throws(TLSError) {
        try credentials.check(for: role)
        ERR_clear_error()
        guard let socketMethod = unsafe copenssl_new_socket_method() else { throw TLSError(library: "BIO_meth_new") }
        guard let handle = unsafe SSL_CTX_new(role == .server ? TLS_server_method() : TLS_client_method()) else {
            unsafe BIO_meth_free(socketMethod)
            throw TLSError(library: "SSL_CTX_new")
        }
        self.role = role
        self.allowList = allowList
        identity = unsafe PeerIdentity(certificate: credentials.chain[0].handle)
        unsafe self.handle = handle
        unsafe self.socketMethod = socketMethod
        try configure()
        try install(credentials)
    }

    deinit {
        // SAFETY: this object's own references; an SSL keeps the context by a reference of its own, and every connection keeps this object.
        unsafe SSL_CTX_free(handle)
        unsafe BIO_meth_free(socketMethod)
    }

    private func configure() throws(TLSError) {
        // SAFETY: the context lives as long as this object; the callback gets no pointer of ours but the connection's, see verify(_:).
        guard unsafe copenssl_set_versions(handle, TLS1_3_VERSION, TLS1_3_VERSION) == 1 else {
            throw TLSError(library: "SSL_CTX_set_min_proto_version")
        }
        unsafe SSL_CTX_set_options(handle, copenssl_options)
        unsafe SSL_CTX_set_security_level(handle, 2)
        unsafe SSL_CTX_set_num_tickets(handle, 0)
        unsafe SSL_CTX_set_max_early_data(handle, 0)
        unsafe copenssl_disable_session_cache(handle)
        unsafe copenssl_set_partial_writes(handle)
        unsafe copenssl_set_read_ahead(handle)
        // On a client the second flag means nothing.
        unsafe SSL_CTX_set_verify(handle, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
        unsafe SSL_CTX_set_cert_verify_callback(handle, { store, _ in unsafe TLSConnection.verify(store) }, nil)
    }

    private func install(_ credentials: Credentials) throws(TLSError) {
        // SAFETY: the context takes references of its own to everything that it is given.
        guard unsafe SSL_CTX_use_certificate(handle, credentials.chain[0].handle) == 1,
            unsafe SSL_CTX_use_PrivateKey(handle, credentials.key.handle) == 1
        else { throw TLSError(library: "SSL_CTX_use_certificate", .drain(), weak: credentials.files.certificate) }
        for certificate in credentials.chain.dropFirst() {
            guard unsafe copenssl_add_chain_certificate(handle, certificate.handle) == 1 else {
                throw TLSError(library: "SSL_CTX_add1_chain_cert", .drain(), weak: credentials.files.certificate)
            }
        }
        guard let store = unsafe SSL_CTX_get_cert_store(handle) else {
            throw TLSError(library: "SSL_CTX_get_cert_store")
        }
        try unsafe credentials.fill(store)
    }
}

extension Credentials {
    /// Puts what is trusted into an `X509_STORE *`, which takes references of its own.
    @unsafe
    func fill(_ store: OpaquePointer) throws(TLSError) {
        // SAFETY: the caller keeps the store.
        for authority in authorities {
            guard unsafe X509_STORE_add_cert(store, authority.handle) == 1 else {
                throw TLSError(library: "X509_STORE_add_cert")
            }
        }
        for list in revocations {
            guard unsafe X509_STORE_add_crl(store, list.handle) == 1 else {
                throw TLSError(library: "X509_STORE_add_crl")
            }
        }
        if !revocations.isEmpty {
            // Of every certificate of a chain: a CA in between can be revoked, too.
            unsafe X509_STORE_set_flags(store, UInt(X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL))
        }
    }

    /// Finds everything that is wrong with the files of this side, before a peer sees it.
    func check(for role: TLSFiles.Role) throws(TLSError) {
        let own = chain[0]
        guard unsafe X509_check_private_key(own.handle, key.handle) == 1 else {
            ERR_clear_error()
            throw TLSError(
                .mismatch,
                "The private key \"\(files.key)\" does not belong to the certificate \"\(files.certificate)\"",
                remedy: "Give the pair that was made together"
            )
        }
        if own.isExpired {
            throw TLSError(
                .expired,
                "The certificate \"\(files.certificate)\" has expired on \(own.notAfter)",
                remedy: "Issue a new one, or check this machine's clock"
            )
        }
        if own.isNotYetValid {
            throw TLSError(
                .notYetValid,
                "The certificate \"\(files.certificate)\" is not valid before \(own.notBefore)",
                remedy: "Check this machine's clock"
            )
        }
        for list in revocations {
            guard let due = list.overdue else { continue }
            throw TLSError(
                .staleRevocations,
                "The revocation list \"\(files.revocations ?? "")\" is out of date: the next one was due on \(due)",
                remedy: "Fetch the present list of the CA"
            )
        }
        try verify(for: role)
    }

    /// Verifies the certificate of this side as the other side will.
    private func verify(for role: TLSFiles.Role) throws(TLSError) {
        ERR_clear_error()
        // SAFETY: all objects live until the end of the function; the context is freed before the store.
        guard let store = unsafe X509_STORE_new() else { throw TLSError(library: "X509_STORE_new") }
        defer { unsafe X509_STORE_free(store) }
        try unsafe fill(store)
        guard let between = unsafe OPENSSL_sk_new_null() else { throw TLSError(library: "OPENSSL_sk_new_null") }
        defer { unsafe OPENSSL_sk_free(between) }
        for certificate in chain.dropFirst() { unsafe OPENSSL_sk_push(between, UnsafeRawPointer(certificate.handle)) }
        guard let context = unsafe X509_STORE_CTX_new() else { throw TLSError(library: "X509_STORE_CTX_new") }
        defer { unsafe X509_STORE_CTX_free(context) }
        guard unsafe X509_STORE_CTX_init(context, store, chain[0].handle, between) == 1,
            unsafe X509_STORE_CTX_set_default(context, role == .server ? "ssl_server" : "ssl_client") == 1
        else { throw TLSError(library: "X509_STORE_CTX_init") }
        let verified = unsafe X509_verify_cert(context) == 1
        ERR_clear_error()
        guard verified else { throw TLSError(own: Int(unsafe X509_STORE_CTX_get_error(context)), files) }
        guard unsafe Certificate.isMade(chain[0].handle, for: role) else {
            throw TLSError(own: Int(X509_V_ERR_INVALID_PURPOSE), files)
        }
    }
}
