// SPDX-License-Identifier: Apache-2.0
internal import COpenSSL
internal import LinuxSystem
internal import TLSSession
internal import TestSupport

/// A peer that keeps no rule: it verifies nothing and shows what it is told to.
@safe
final class RoguePeer: HandshakeEnd {
    private let context: OpaquePointer
    private let ssl: OpaquePointer
    private let socket: StreamSocket
    /// Number of the alert that the other side has sent.
    private(set) var alert: Int32?

    /// - Parameters:
    ///   - role: accepts or connects.
    ///   - identity: prefix of the certificate and key to show, below the folder of bad certificates; `nil` shows none.
    ///   - highest: newest version of TLS that it speaks.
    init(
        _ role: TLSFiles.Role,
        over socket: consuming StreamSocket,
        identity: String?,
        highest: Int32 = TLS1_3_VERSION
    ) throws {
        unsafe context = SSL_CTX_new(role == .server ? TLS_server_method() : TLS_client_method())
        unsafe SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nil)
        guard unsafe copenssl_set_versions(context, TLS1_2_VERSION, highest) == 1 else {
            throw TestFailure("no such version")
        }
        if let identity {
            let prefix = try Files.path(identity)
            guard unsafe SSL_CTX_use_certificate_chain_file(context, "\(prefix)-cert.pem") == 1,
                unsafe SSL_CTX_use_PrivateKey_file(context, "\(prefix)-key.pem", SSL_FILETYPE_PEM) == 1
            else { throw TestFailure("\(prefix) cannot be used") }
        }
        unsafe ssl = SSL_new(context)
        unsafe SSL_set_fd(ssl, socket.descriptor)
        if role == .server { unsafe SSL_set_accept_state(ssl) } else { unsafe SSL_set_connect_state(ssl) }
        self.socket = socket
    }

    deinit {
        unsafe SSL_free(ssl)
        unsafe SSL_CTX_free(context)
    }

    func step() -> SideResult {
        ERR_clear_error()
        let result = unsafe SSL_do_handshake(ssl)
        return outcome(result, unsafe SSL_get_error(ssl, result))
    }

    /// Reads once and notes the alert if there is one.
    func read() -> SideResult {
        ERR_clear_error()
        var byte: UInt8 = 0
        let result = unsafe SSL_read(ssl, &byte, 1)
        return outcome(result, unsafe SSL_get_error(ssl, result))
    }

    /// Sends bytes; whether they left.
    func write(_ bytes: [UInt8]) -> Bool {
        ERR_clear_error()
        return unsafe SSL_write(ssl, bytes, Int32(bytes.count)) == Int32(bytes.count)
    }

    /// Asks for new keys in both directions with the next write.
    func updateKeys() -> Bool {
        unsafe SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) == 1
    }

    /// Whether it got what it needs to resume the session later, or to send early data.
    var canResume: Bool {
        guard let session = unsafe SSL_get_session(ssl) else { return false }
        return unsafe SSL_SESSION_is_resumable(session) == 1 || SSL_SESSION_get_max_early_data(session) > 0
    }

    private func outcome(_ result: Int32, _ error: Int32) -> SideResult {
        if result > 0 { return .complete }
        if error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE { return .pending }
        while true {
            let number = ERR_get_error()
            guard number != 0 else { break }
            let reason = ERR_GET_REASON(number)
            if ERR_GET_LIB(number) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET {
                alert = reason - SSL_AD_REASON_OFFSET
            }
        }
        return .broken
    }
}
