// SPDX-License-Identifier: Apache-2.0
internal import COpenSSL
internal import Glibc
public import LinuxSystem

/// One connection with mutual TLS 1.3 over a socket that never blocks.
///
/// One thread uses it at a time.
///
/// Nothing of the other side has been proved before ``handshake(until:)`` returns; on a client not even then that the server accepts *us*
/// (TLS 1.3 lets the client finish first): that is proved by the first byte read.
///
/// Bytes that have come may wait inside, where poll does not see them: read until `wouldBlock` before waiting for ``descriptor``.
@safe
public final class TLSConnection {
    /// What a step of the handshake found.
    public enum HandshakeStep: Hashable, Sendable {
        /// Both certificates are verified, as far as this side can know.
        case complete
        /// The socket has to be ready for this first.
        case wouldBlock(DescriptorIO.Direction)
    }

    /// What a read found.
    public enum ReadOutcome: Hashable, Sendable {
        /// So many bytes, at least one.
        case bytes(Int)
        /// The socket has to be ready for this first.
        case wouldBlock(DescriptorIO.Direction)
        /// The other side has ended the connection properly.
        case closed
        /// The stream ended without the end mark of TLS: somebody has cut it.
        case truncated
    }

    /// What a write found.
    public enum WriteOutcome: Hashable, Sendable {
        /// So many bytes were taken, at least one.
        case bytes(Int)
        /// The socket has to be ready for this first; nothing was taken, but the same bytes must be offered again.
        case wouldBlock(DescriptorIO.Direction)
    }

    /// The rules of this side.
    public let context: TLSContext
    /// Makes waits end with `interrupted` while its count is not 0; for a thread that has to be stopped.
    public var interruption: EventDescriptor?

    /// Who the other side is, once the handshake is complete.
    public private(set) var peer: PeerIdentity?

    /// Called after each record that was read or written, by the thread that uses the connection.
    public var afterRecord: (() -> Void)?

    /// Whether what is written from now on may wait in the kernel for what is written next, 0.2 seconds at most.
    ///
    /// The corresponding C constant is `MSG_MORE`.
    public var moreFollows = false {
        didSet {
            // SAFETY: the SSL and its BIO live as long as this object.
            if moreFollows != oldValue { _ = unsafe copenssl_set_more_follows(ssl, moreFollows ? 1 : 0) }
        }
    }

    private var socket: StreamSocket?
    let ssl: OpaquePointer
    /// Name that the certificate of the server must carry.
    private let expectedName: String?
    /// The certificate that was shown, accepted or not.
    private var presented: PeerIdentity?
    /// After a fatal error OpenSSL must not be asked to say goodbye.
    private var isBroken = false

    /// The server's side of a connection that was accepted.
    ///
    /// - Parameters:
    ///   - socket: belongs to the connection from now on.
    ///   - context: of a server.
    /// - Throws: ``TLSError`` with `library` when there is no memory.
    public convenience init(accepted socket: consuming StreamSocket, _ context: TLSContext) throws(TLSError) {
        precondition(context.role == .server, "TLSConnection: a client's context cannot accept")
        try self.init(socket, context, expectedName: nil)
        // SAFETY: the SSL lives as long as this object.
        unsafe SSL_set_accept_state(ssl)
    }

    /// The client's side of a connection.
    ///
    /// - Parameters:
    ///   - socket: belongs to the connection from now on.
    ///   - context: of a client.
    ///   - serverName: the DNS name, IP address or URI that the server's certificate must carry in its subjectAltName.
    /// - Throws: ``TLSError`` with `badName` for what cannot be a name.
    public convenience init(
        connected socket: consuming StreamSocket,
        _ context: TLSContext,
        serverName: String
    ) throws(TLSError) {
        precondition(context.role == .client, "TLSConnection: a server's context cannot connect")
        try self.init(socket, context, expectedName: serverName)
        // SAFETY: the SSL lives as long as this object.
        unsafe SSL_set_connect_state(ssl)
        try expect(serverName)
    }

    private init(_ socket: consuming StreamSocket, _ context: TLSContext, expectedName: String?) throws(TLSError) {
        ERR_clear_error()
        // SAFETY: the context outlives the SSL, which this object frees; the BIO belongs to the SSL.
        guard let ssl = unsafe SSL_new(context.handle) else { throw TLSError(library: "SSL_new") }
        guard let bio = unsafe BIO_new(context.socketMethod) else {
            unsafe SSL_free(ssl)
            throw TLSError(library: "BIO_new")
        }
        unsafe copenssl_set_descriptor(bio, socket.descriptor)
        unsafe SSL_set_bio(ssl, bio, bio)
        self.context = context
        self.expectedName = expectedName
        unsafe self.ssl = ssl
        self.socket = consume socket
        // SAFETY: the verify callback runs inside of calls on this object only, so the unretained pointer is alive there.
        unsafe SSL_set_ex_data(ssl, 0, Unmanaged.passUnretained(self).toOpaque())
    }

    deinit {
        // SAFETY: this object's own reference.
        unsafe SSL_free(ssl)
    }

    /// For poll; -1 after ``close()``.
    public var descriptor: Int32 { socket?.descriptor ?? -1 }

    /// Address of the other side, for messages.
    public var peerAddress: SocketAddress? { socket?.peerAddress }

    /// Bytes that are decrypted and can be read without asking the kernel.
    ///
    /// 0 says nothing about records that have come and are not decrypted yet.
    public var pending: Int {
        // SAFETY: the SSL lives as long as this object.
        Int(unsafe SSL_pending(ssl))
    }

    /// Whether bytes have been taken from the socket and not been read yet, decrypted or not.
    ///
    /// When there are none, poll tells whether a read finds anything.
    public var hasBufferedBytes: Bool {
        // SAFETY: the SSL lives as long as this object.
        unsafe SSL_has_pending(ssl) == 1
    }

    /// Whether a read finds bytes, as far as what has been taken from the socket tells.
    ///
    /// Asks the kernel only for the rest of a record that has come in part.
    public var nextReadFindsBytes: Bool {
        guard pending == 0 else { return true }
        guard socket != nil && !isBroken && hasBufferedBytes else { return false }
        var byte: UInt8 = 0
        var count = 0
        ERR_clear_error()
        // SAFETY: one byte that lives during the call; the SSL lives as long as this object.
        let result = unsafe SSL_peek_ex(ssl, &byte, 1, &count)
        // Why not is what the next read will say.
        ERR_clear_error()
        return result == 1
    }

    /// `TLSv1.3`.
    public var version: String {
        // SAFETY: a constant string of the library.
        unsafe String(cString: SSL_get_version(ssl))
    }

    /// For example `TLS_AES_256_GCM_SHA384`; `(NONE)` before the handshake.
    public var cipher: String {
        // SAFETY: a constant string of the library.
        unsafe String(cString: SSL_CIPHER_get_name(SSL_get_current_cipher(ssl)))
    }

    // MARK: - Handshake

    /// Goes on with the handshake as far as possible without waiting.
    ///
    /// - Returns: whether it is complete, or what it waits for.
    /// - Throws: ``TLSError``; the connection is of no use then.
    public func continueHandshake() throws(TLSError) -> HandshakeStep {
        ERR_clear_error()
        // SAFETY: the SSL lives as long as this object.
        let result = unsafe SSL_do_handshake(ssl)
        guard result != 1 else {
            guard let presented else { throw fail(TLSError(library: "SSL_do_handshake without a certificate")) }
            peer = presented
            return .complete
        }
        let number = errno
        switch unsafe SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ: return .wouldBlock(.readable)
        case SSL_ERROR_WANT_WRITE: return .wouldBlock(.writable)
        case let other: throw fail(failure(other, number, during: "handshake"))
        }
    }

    /// Waits until the handshake is complete.
    ///
    /// - Parameter deadline: bounds what an unauthenticated peer can hold.
    /// - Throws: ``TLSError``; the connection is of no use then.
    public func handshake(until deadline: Deadline) throws(TLSError) {
        while true {
            switch try continueHandshake() {
            case .complete: return
            case .wouldBlock(let direction): try wait(for: direction, until: deadline, during: "handshake")
            }
        }
    }

    // MARK: - Bytes

    /// Reads what has come, without waiting.
    ///
    /// - Parameters:
    ///   - buffer: gets the bytes.
    ///   - offset: where in the buffer.
    ///   - count: most bytes, more than 0.
    /// - Returns: how many bytes, or why none.
    /// - Throws: ``TLSError`` with `reset`, `rejectedByPeer`, `protocolViolation`, …; the connection is of no use then.
    public func read(into buffer: TransferBuffer, at offset: Int, count: Int) throws(TLSError) -> ReadOutcome {
        // SAFETY: checked by pointer(at:count:); the buffer outlives the call and one thread uses it.
        try unsafe read(buffer.pointer(at: offset, count: count), count)
    }

    /// Writes as much as the socket takes, without waiting; at most 16 KiB.
    ///
    /// - Parameters:
    ///   - buffer: holds the bytes.
    ///   - offset: where in the buffer.
    ///   - count: how many, more than 0.
    /// - Returns: how many bytes were taken, or why none.
    /// - Throws: ``TLSError`` with `reset` and others; the connection is of no use then.
    public func write(from buffer: TransferBuffer, at offset: Int, count: Int) throws(TLSError) -> WriteOutcome {
        // SAFETY: checked by pointer(at:count:); the buffer outlives the call and one thread uses it.
        try unsafe write(UnsafeRawPointer(buffer.pointer(at: offset, count: count)), count)
    }

    /// Reads exactly so many bytes.
    ///
    /// - Parameters:
    ///   - buffer: gets the bytes.
    ///   - offset: where in the buffer.
    ///   - count: how many; 0 returns at once.
    ///   - deadline: when to give up.
    /// - Throws: ``TLSError``: `closed`, `truncated`, `reset`, `timedOut`, `interrupted` and others; some bytes may have been read.
    public func readFully(
        into buffer: TransferBuffer,
        at offset: Int,
        count: Int,
        until deadline: Deadline
    ) throws(TLSError) {
        // SAFETY: as in read(into:at:count:).
        try unsafe readFully(buffer.pointer(at: offset, count: count), count, until: deadline)
    }

    /// Reads exactly so many bytes into a new array.
    ///
    /// - Parameters:
    ///   - count: how many; the caller has bounded what the peer asked for.
    ///   - deadline: when to give up.
    /// - Returns: the bytes.
    /// - Throws: as ``readFully(into:at:count:until:)``.
    public func readFully(count: Int, until deadline: Deadline) throws(TLSError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var failure: TLSError?
        // SAFETY: the array's own memory, `count` bytes.
        unsafe bytes.withUnsafeMutableBytes { raw in
            guard let start = raw.baseAddress else { return }
            do throws(TLSError) {
                try unsafe readFully(start, count, until: deadline)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return bytes
    }

    /// Writes all bytes.
    ///
    /// It does not read meanwhile: two sides that both write more than the sockets hold wait for each other until the deadline.
    ///
    /// - Parameters:
    ///   - buffer: holds the bytes.
    ///   - offset: where in the buffer.
    ///   - count: how many; 0 returns at once.
    ///   - deadline: when to give up.
    /// - Throws: ``TLSError``: `reset`, `timedOut`, `interrupted`, `rejectedByPeer` and others; some bytes may have been sent.
    public func writeFully(
        from buffer: TransferBuffer,
        at offset: Int,
        count: Int,
        until deadline: Deadline
    ) throws(TLSError) {
        // SAFETY: as in write(from:at:count:).
        try unsafe writeFully(UnsafeRawPointer(buffer.pointer(at: offset, count: count)), count, until: deadline)
    }

    /// Writes all bytes of an array.
    ///
    /// - Parameters:
    ///   - bytes: what to send.
    ///   - deadline: when to give up.
    /// - Throws: as ``writeFully(from:at:count:until:)``.
    public func writeFully(_ bytes: [UInt8], until deadline: Deadline) throws(TLSError) {
        var failure: TLSError?
        // SAFETY: the array's own memory.
        unsafe bytes.withUnsafeBytes { raw in
            guard let start = raw.baseAddress else { return }
            do throws(TLSError) {
                try unsafe writeFully(start, raw.count, until: deadline)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }

    /// Says goodbye (without waiting for an answer) and closes the socket; a connection that is only dropped looks truncated to the peer.
    public func close() {
        guard let socket = socket.take() else { return }
        guard !isBroken && peer != nil else { return }
        ERR_clear_error()
        // SAFETY: the SSL lives as long as this object, the descriptor until the end of this function.
        _ = unsafe SSL_shutdown(ssl)
        ERR_clear_error()
        isBroken = true
        _ = socket.descriptor
    }
}

extension TLSConnection {
    // MARK: - OpenSSL's calls

    private func read(_ start: UnsafeMutableRawPointer, _ count: Int) throws(TLSError) -> ReadOutcome {
        guard socket != nil && !isBroken else { return .closed }
        precondition(peer != nil, "TLSConnection: read before the handshake is complete")
        ERR_clear_error()
        var done = 0
        // SAFETY: the caller keeps `count` bytes at `start`; the SSL lives as long as this object.
        let result = unsafe SSL_read_ex(ssl, start, count, &done)
        if result == 1 {
            afterRecord?()
            return .bytes(done)
        }
        let number = errno
        switch unsafe SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ: return .wouldBlock(.readable)
        case SSL_ERROR_WANT_WRITE: return .wouldBlock(.writable)
        case SSL_ERROR_ZERO_RETURN: return .closed
        case let other:
            let error = fail(failure(other, number, during: "read"))
            guard error.code == .truncated else { throw error }
            return .truncated
        }
    }

    private func write(_ start: UnsafeRawPointer, _ count: Int) throws(TLSError) -> WriteOutcome {
        guard socket != nil && !isBroken else {
            throw TLSError(.closed, "The connection was closed before all was written")
        }
        precondition(peer != nil, "TLSConnection: write before the handshake is complete")
        ERR_clear_error()
        var done = 0
        // SAFETY: the caller keeps `count` bytes at `start`; the SSL lives as long as this object.
        let result = unsafe SSL_write_ex(ssl, start, count, &done)
        if result == 1 {
            afterRecord?()
            return .bytes(done)
        }
        let number = errno
        switch unsafe SSL_get_error(ssl, result) {
        case SSL_ERROR_WANT_READ: return .wouldBlock(.readable)
        case SSL_ERROR_WANT_WRITE: return .wouldBlock(.writable)
        case let other:
            let error = failure(other, number, during: "write")
            let reason = error.code == .reset ? alertBehindReset() : nil
            throw fail(reason ?? error)
        }
    }

    private func readFully(_ start: UnsafeMutableRawPointer, _ count: Int, until deadline: Deadline) throws(TLSError) {
        var done = 0
        while done < count {
            // SAFETY: the caller keeps `count` bytes at `start`.
            switch try unsafe read(start + done, count - done) {
            case .bytes(let some): done += some
            case .wouldBlock(let direction): try wait(for: direction, until: deadline, during: "read")
            case .closed:
                throw TLSError(
                    .closed,
                    "The other side has ended the connection while \(count - done) bytes were expected"
                )
            case .truncated: throw Self.truncation
            }
        }
    }

    private func writeFully(_ start: UnsafeRawPointer, _ count: Int, until deadline: Deadline) throws(TLSError) {
        var done = 0
        while done < count {
            // SAFETY: the caller keeps `count` bytes at `start`.
            switch try unsafe write(start + done, count - done) {
            case .bytes(let some): done += some
            case .wouldBlock(let direction): try wait(for: direction, until: deadline, during: "write")
            }
        }
    }

    /// Waits for the socket, the deadline or the interruption.
    private func wait(for direction: DescriptorIO.Direction, until deadline: Deadline, during what: String)
        throws(TLSError)
    {
        do throws(SystemCallError) {
            switch try DescriptorIO.wait(for: direction, on: descriptor, interruptedBy: interruption, until: deadline) {
            case .ready: return
            case .interrupted: throw SystemCallError("poll", .interrupted)
            case .timedOut: throw SystemCallError("poll", .timedOut)
            }
        } catch {
            switch error.errno {
            case .interrupted: throw TLSError(.interrupted, "Waiting for the other side was interrupted (\(what))")
            case .timedOut: throw TLSError(.timedOut, "The other side did not answer in time (\(what))")
            default: throw TLSError(.systemCall, "Waiting for the other side failed (\(what))", cause: error)
            }
        }
    }

    // MARK: - Failures

    private static let truncation = TLSError(
        .truncated,
        "The connection was cut: it ended without the end mark of TLS"
    )

    /// Remembers that OpenSSL must not be asked for more.
    private func fail(_ error: TLSError) -> TLSError {
        isBroken = true
        return error
    }

    /// What a result of SSL_get_error(3) that is neither success nor waiting means.
    private func failure(_ kind: Int32, _ number: Int32, during what: String) -> TLSError {
        let queue = OpenSSLFailure.drain()
        guard kind == SSL_ERROR_SSL else {
            if number == 0 || kind == SSL_ERROR_ZERO_RETURN { return Self.truncation }
            return Self.failed(SystemCallError(what == "write" ? "send" : "recv", Errno(rawValue: number)))
        }
        if queue.tells(SSL_R_UNEXPECTED_EOF_WHILE_READING) { return Self.truncation }
        if queue.tells(SSL_R_CERTIFICATE_VERIFY_FAILED) { return verificationFailure() }
        if queue.tells(SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
            return TLSError(.peerWithoutCertificate, "The other side has shown no certificate", details: queue.texts)
        }
        if let alert = queue.alert { return TLSError(alert: alert, queue) }
        let versions = [
            SSL_R_UNSUPPORTED_PROTOCOL, SSL_R_WRONG_VERSION_NUMBER, SSL_R_HTTP_REQUEST, SSL_R_HTTPS_PROXY_REQUEST,
            SSL_R_UNKNOWN_PROTOCOL, SSL_R_WRONG_SSL_VERSION, SSL_R_VERSION_TOO_LOW, SSL_R_PACKET_LENGTH_TOO_LONG,
        ]
        if peer == nil && versions.contains(where: queue.tells) {
            return TLSError(.versionMismatch, "The other side does not speak TLS 1.3", details: queue.texts)
        }
        return TLSError(.protocolViolation, "The other side breaks the rules of TLS (\(what))", details: queue.texts)
    }

    private static func failed(_ cause: SystemCallError) -> TLSError {
        switch cause.errno {
        case .connectionReset, .brokenPipe, .timedOut, .connectionRefused:
            TLSError(.reset, "The connection to the other side is lost", cause: cause)
        case let other where [ENETDOWN, ENETUNREACH, EHOSTUNREACH, ENOTCONN, ECONNABORTED].contains(other.rawValue):
            TLSError(.reset, "The connection to the other side is lost", cause: cause)
        default:
            TLSError(.systemCall, "The connection to the other side failed", cause: cause)
        }
    }

    /// The alert of a peer that refused us and closed while we were writing: it lies before the reset in the stream.
    private func alertBehindReset() -> TLSError? {
        ERR_clear_error()
        var byte: UInt8 = 0
        var done = 0
        // SAFETY: one byte that lives during the call. Anything but an alert is of no interest: the connection is lost.
        let result = unsafe SSL_read_ex(ssl, &byte, 1, &done)
        let queue = OpenSSLFailure.drain()
        guard result != 1, let alert = queue.alert else { return nil }
        return TLSError(alert: alert, queue)
    }

    private func verificationFailure() -> TLSError {
        // SAFETY: the SSL lives as long as this object.
        let result = unsafe SSL_get_verify_result(ssl)
        guard Int32(result) == X509_V_ERR_APPLICATION_VERIFICATION, let presented else {
            return TLSError(peer: result, presented, expected: expectedName)
        }
        return TLSError(
            .peerNotAllowed,
            "The other side is certified, but none of its names is on the allow list: \(presented.listed)",
            remedy: "Add one of them with --allow, if it is meant to be served"
        )
    }

    // MARK: - Verification

    /// Has OpenSSL look for the name in the certificate of the server.
    private func expect(_ name: String) throws(TLSError) {
        let bad = TLSError(
            .badName,
            "\"\(PeerIdentity.printable(name))\" is not a name that the server's certificate can carry",
            remedy: "Give a DNS name, an IP address or a URI with --server-name"
        )
        guard !name.isEmpty, name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else { throw bad }
        ERR_clear_error()
        // SAFETY: strings live during the calls, which copy them.
        guard let parameters = unsafe SSL_get0_param(ssl) else { throw TLSError(library: "SSL_get0_param") }
        let address = name.hasPrefix("[") && name.hasSuffix("]") ? String(name.dropFirst().dropLast()) : name
        if unsafe X509_VERIFY_PARAM_set1_ip_asc(parameters, address) == 1 { return }
        ERR_clear_error()
        // A URI is looked for after OpenSSL's own verification.
        guard !Self.isURI(name) else { return }
        guard !name.utf8.contains(UInt8(ascii: ":")) else { throw bad }
        unsafe X509_VERIFY_PARAM_set_hostflags(
            parameters,
            UInt32(X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS)
        )
        guard unsafe SSL_set1_host(ssl, name) == 1, unsafe copenssl_set_server_name_indication(ssl, name) == 1 else {
            ERR_clear_error()
            throw bad
        }
    }

    private static func isURI(_ name: String) -> Bool {
        name.contains("://")
    }

    /// Called by OpenSSL with the chain that the other side has shown.
    ///
    /// - Parameter store: an `X509_STORE_CTX *`.
    /// - Returns: 1 when the peer is who it has to be.
    @unsafe
    static func verify(_ store: OpaquePointer?) -> Int32 {
        // SAFETY: OpenSSL keeps the store during the callback; the connection is in the middle of a call, so it lives.
        guard let store = unsafe store,
            let ssl = unsafe X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()),
            let owner = unsafe SSL_get_ex_data(OpaquePointer(ssl), 0),
            let certificate = unsafe X509_STORE_CTX_get0_cert(store)
        else { return 0 }
        let connection = unsafe Unmanaged<TLSConnection>.fromOpaque(owner).takeUnretainedValue()
        let presented = unsafe PeerIdentity(certificate: certificate)
        connection.presented = presented
        guard unsafe X509_verify_cert(store) == 1 else { return 0 }
        let role: TLSFiles.Role = connection.context.role == .server ? .client : .server
        guard unsafe Certificate.isMade(certificate, for: role) else {
            unsafe X509_STORE_CTX_set_error(store, X509_V_ERR_INVALID_PURPOSE)
            return 0
        }
        switch connection.judge(presented) {
        case X509_V_OK: return 1
        case let error:
            unsafe X509_STORE_CTX_set_error(store, error)
            return 0
        }
    }

    /// What is decided beyond OpenSSL's own verification.
    private func judge(_ peer: PeerIdentity) -> Int32 {
        guard context.allowList.accepts(peer) else { return X509_V_ERR_APPLICATION_VERIFICATION }
        if let expectedName, Self.isURI(expectedName),
            !peer.uris.contains(where: { $0.utf8.elementsEqual(expectedName.utf8) })
        {
            return X509_V_ERR_HOSTNAME_MISMATCH
        }
        return X509_V_OK
    }
}
