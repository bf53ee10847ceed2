// SPDX-License-Identifier: Apache-2.0
//
// OpenSSL 3 for Swift: the headers, and one inline function for each macro that Swift cannot import.
#pragma once

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

/// What every context has: no tickets, no renegotiation, no compression. An end of file without close_notify stays an error.
static const uint64_t copenssl_options = SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION;

/// SSL_CTX_set_min_proto_version and SSL_CTX_set_max_proto_version. Returns 1, or 0.
static inline int copenssl_set_versions(SSL_CTX *_Nonnull context, int lowest, int highest) {
    return SSL_CTX_set_min_proto_version(context, lowest) && SSL_CTX_set_max_proto_version(context, highest);
}

/// SSL_CTX_set_mode: a write may be partial and may be repeated from another address.
static inline void copenssl_set_partial_writes(SSL_CTX *_Nonnull context) {
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

/// SSL_CTX_set_session_cache_mode(SSL_SESS_CACHE_OFF).
static inline void copenssl_disable_session_cache(SSL_CTX *_Nonnull context) {
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

/// SSL_CTX_set_read_ahead(1): one read(2) a record instead of two.
static inline void copenssl_set_read_ahead(SSL_CTX *_Nonnull context) {
    SSL_CTX_set_read_ahead(context, 1);
}

/// SSL_CTX_add1_chain_cert. Returns 1, or 0.
static inline int copenssl_add_chain_certificate(SSL_CTX *_Nonnull context, X509 *_Nonnull certificate) {
    return (int)SSL_CTX_add1_chain_cert(context, certificate);
}

/// SSL_set_tlsext_host_name. Returns 1, or 0.
static inline int copenssl_set_server_name_indication(SSL *_Nonnull ssl, const char *_Nonnull name) {
    return (int)SSL_set_tlsext_host_name(ssl, name);
}

/// sk_GENERAL_NAME_num.
static inline int copenssl_general_names_count(const GENERAL_NAMES *_Nonnull names) {
    return sk_GENERAL_NAME_num(names);
}

/// sk_GENERAL_NAME_value and the members of the union. Returns the kind (GEN_DNS, GEN_URI, GEN_IPADD with `*bytes` and `*length` set;
/// -1 for other kinds). The bytes belong to the list and do not end with NUL.
static inline int copenssl_general_name(
    const GENERAL_NAMES *_Nonnull names, int index, const unsigned char *_Nullable *_Nonnull bytes, int *_Nonnull length) {
    const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);
    const ASN1_STRING *text = NULL;
    *bytes = NULL;
    *length = 0;
    if (name == NULL) return -1;
    if (name->type == GEN_DNS) text = name->d.dNSName;
    if (name->type == GEN_URI) text = name->d.uniformResourceIdentifier;
    if (name->type == GEN_IPADD) text = name->d.iPAddress;
    if (text == NULL) return -1;
    *bytes = ASN1_STRING_get0_data(text);
    *length = ASN1_STRING_length(text);
    return name->type;
}

/// Whether more is written at once: the kernel may wait for it. False at first.
static inline int copenssl_set_more_follows(SSL *_Nonnull ssl, int follows) {
    static char yes;
    return (int)BIO_set_app_data(SSL_get_wbio(ssl), follows ? &yes : NULL);
}

/// The write of BIO_s_socket with MSG_NOSIGNAL, so that a connection that broke does not end the program by SIGPIPE, and with
/// MSG_MORE where copenssl_set_more_follows has said so.
static inline int copenssl_socket_write(BIO *_Nonnull bio, const char *_Nonnull bytes, int length) {
    int descriptor = -1;
    BIO_get_fd(bio, &descriptor);
    BIO_clear_retry_flags(bio);
    errno = 0;
    int more = BIO_get_app_data(bio) != NULL ? MSG_MORE : 0;
    ssize_t sent = send(descriptor, bytes, (size_t)length, MSG_NOSIGNAL | more);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_write(bio);
    return (int)sent;
}

/// A method like BIO_s_socket, with copenssl_socket_write. Free with BIO_meth_free, after the BIOs that use it.
static inline BIO_METHOD *_Nullable copenssl_new_socket_method(void) {
    const BIO_METHOD *socket_method = BIO_s_socket();
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOCKET, "socket without SIGPIPE");
    if (method == NULL) return NULL;
    int complete = BIO_meth_set_write(method, copenssl_socket_write)
        && BIO_meth_set_read(method, BIO_meth_get_read(socket_method))
        && BIO_meth_set_ctrl(method, BIO_meth_get_ctrl(socket_method))
        && BIO_meth_set_create(method, BIO_meth_get_create(socket_method))
        && BIO_meth_set_destroy(method, BIO_meth_get_destroy(socket_method));
    if (complete) return method;
    BIO_meth_free(method);
    return NULL;
}

/// BIO_set_fd with BIO_NOCLOSE: the descriptor stays its owner's.
static inline void copenssl_set_descriptor(BIO *_Nonnull bio, int descriptor) {
    BIO_set_fd(bio, descriptor, BIO_NOCLOSE);
}
