// SPDX-License-Identifier: Apache-2.0
internal import COpenSSL

/// What the library has to be told before anything else is asked of it.
enum OpenSSLLibrary {
    /// Whatever is asked of the library comes behind this.
    ///
    /// A program may end by exit(3) while threads of it still run: one that turns a stranger away, one that has just been told to go. By
    /// itself the library frees its lists then, and a thread that ends in that moment walks through them (`init_thread_stop`), which is a
    /// SIGSEGV instead of an exit status. Nothing has to be freed by a process that ends. See OPENSSL_init_crypto(3).
    static let isReady = OPENSSL_init_crypto(UInt64(OPENSSL_INIT_NO_ATEXIT), nil) == 1
}
