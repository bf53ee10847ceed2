// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// A TCP socket that waits for connections.
public final class Listener: Sendable {
    private let owned: OwnedDescriptor

    /// Readable when a connection waits.
    public var descriptor: Int32 { owned.rawValue }

    /// Where it listens, with the port that the kernel chose if it was asked to.
    public let address: SocketAddress

    /// Listens on the first address of a host.
    ///
    /// - Parameters:
    ///   - host: a name or address of this machine; `0.0.0.0` and `::` stand for all of them.
    ///   - port: 0 lets the kernel choose.
    ///   - backlog: connections that may wait to be accepted.
    ///
    /// The corresponding calls are `socket`, `bind` and `listen`.
    public init(host: String, port: UInt16, backlog: Int32 = 128) throws(SocketError) {
        let wanted = try SocketAddress.resolve(host, port: port)[0]
        do throws(SystemCallError) {
            let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
            let number = try systemCall("socket") { socket(wanted.family, type, 0) }
            let descriptor = OwnedDescriptor(adopting: number)
            var yes: Int32 = 1
            try systemCall("setsockopt", operand: "SO_REUSEADDR") {
                // SAFETY: one number that lives during the call.
                unsafe setsockopt(number, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
            }
            try systemCall("bind", operand: "\(wanted)") {
                // SAFETY: the address lives during the call, with its own length.
                unsafe wanted.bytes.withUnsafeBytes { raw in
                    unsafe bind(number, raw.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t(raw.count))
                }
            }
            try systemCall("listen", operand: "\(wanted)") { listen(number, backlog) }
            // SAFETY: the closure passes its arguments on.
            address = unsafe SocketAddress.of(number) { unsafe getsockname($0, $1, $2) } ?? wanted
            owned = descriptor
        } catch {
            throw SocketError(listening: wanted, error)
        }
    }

    /// The next connection that waits, non-blocking, with small messages sent at once and keep-alive; `nil` when none waits.
    ///
    /// A connection that ended while it waited counts as none.
    ///
    /// - Throws: ``SystemCallError``; with `EMFILE` or `ENFILE` the connection still waits: free descriptors before the next try.
    ///
    /// The corresponding call is `accept4`.
    public func accept() throws(SystemCallError) -> StreamSocket? {
        let number = owned.rawValue
        let result = clinux_accept(number)
        guard result >= 0 else {
            switch -result {
            // Errors that Linux passes on from the new connection (accept(2)) are not errors of the listener.
            case EAGAIN, EINTR, ECONNABORTED, ENETDOWN, EPROTO, ENOPROTOOPT, EHOSTDOWN, EHOSTUNREACH, EOPNOTSUPP,
                ENETUNREACH, ENONET:
                return nil
            default:
                throw SystemCallError("accept4", Errno(rawValue: -result), operand: "\(address)")
            }
        }
        let connection = StreamSocket(nonBlocking: OwnedDescriptor(adopting: result))
        do throws(SystemCallError) {
            try connection.configure()
        } catch {
            // The options fail with EINVAL on a connection that was reset meanwhile; whoever uses it next sees the reset.
            guard error.errno == .invalid else { throw error }
        }
        return connection
    }
}

extension SocketError {
    /// What a failed listener means for the user.
    ///
    /// See: `man 2 bind`
    init(listening address: SocketAddress, _ cause: SystemCallError) {
        switch cause.errno.rawValue {
        case EADDRINUSE:
            self.init(
                .addressInUse,
                "Another program listens on \(address). Choose another port; 0 picks a free one",
                cause: cause
            )
        case EADDRNOTAVAIL:
            self.init(
                .addressNotAvailable,
                "\(address.host) is not an address of this machine. Give one of `ip address`",
                cause: cause
            )
        case EACCES:
            self.init(.permission, "Listening on \(address) is not allowed. Choose a port from 1024 on", cause: cause)
        default:
            self.init(.systemCall, "Listening on \(address) failed", cause: cause)
        }
    }
}
