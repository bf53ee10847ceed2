// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A connected TCP socket (or UNIX stream) that never blocks: who has to wait, waits with a deadline.
public struct StreamSocket: ~Copyable, Sendable {
    private let owned: OwnedDescriptor

    /// For poll and for the calls that do not close it.
    public var descriptor: Int32 { owned.rawValue }

    /// When an idle connection whose other machine has gone is noticed.
    public struct KeepAlive: Hashable, Sendable {
        /// Silence before the first probe, in whole seconds.
        public var idle: Int32
        /// Time between probes, in whole seconds.
        public var interval: Int32
        /// Probes without answer after which the connection is lost.
        public var probes: Int32

        /// By default a dead machine is noticed after twelve seconds.
        public init(idle: Int32 = 3, interval: Int32 = 3, probes: Int32 = 3) {
            self.idle = idle
            self.interval = interval
            self.probes = probes
        }
    }

    /// Takes over a connected stream socket and makes it non-blocking.
    ///
    /// The corresponding call is `fcntl(F_SETFL)`.
    public init(adopting descriptor: consuming OwnedDescriptor) throws(SystemCallError) {
        let number = descriptor.rawValue
        owned = descriptor
        let operand = "descriptor \(number)"
        let flags = try systemCall("fcntl", operand: operand) { fcntl(number, F_GETFL) }
        try systemCall("fcntl", operand: operand) { fcntl(number, F_SETFL, flags | O_NONBLOCK) }
    }

    /// Connects to the first address of a host that answers.
    ///
    /// - Parameters:
    ///   - host: a name, an IPv4 address, or an IPv6 address with or without brackets.
    ///   - port: where the other side listens.
    ///   - deadline: for all addresses together; looking up the name is not covered.
    ///   - event: ends the wait as the deadline does.
    public static func connect(
        to host: String,
        port: UInt16,
        until deadline: Deadline,
        interruptedBy event: EventDescriptor? = nil
    ) throws(SocketError) -> StreamSocket {
        var last: SocketError?
        for address in try SocketAddress.resolve(host, port: port) {
            do throws(SocketError) {
                return try connect(to: address, until: deadline, interruptedBy: event)
            } catch {
                last = error
                if error.code == .timedOut { break }
            }
        }
        throw last ?? SocketError(.unresolvable, "Host \"\(host)\" has no address")
    }

    /// Connects to one address.
    ///
    /// The corresponding call is `connect`.
    public static func connect(
        to address: SocketAddress,
        until deadline: Deadline,
        interruptedBy event: EventDescriptor? = nil
    ) throws(SocketError) -> StreamSocket {
        do throws(SystemCallError) {
            let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
            let number = try systemCall("socket") { socket(address.family, type, 0) }
            let connection = StreamSocket(nonBlocking: OwnedDescriptor(adopting: number))
            // SAFETY: the address lives during the call, with its own length.
            let result = unsafe address.bytes.withUnsafeBytes { raw in
                unsafe Glibc.connect(
                    number,
                    raw.baseAddress?.assumingMemoryBound(to: sockaddr.self),
                    socklen_t(raw.count)
                )
            }
            if result != 0 {
                // After EINTR the connection goes on being made, as after EINPROGRESS (connect(2)).
                let failure = Errno(rawValue: errno)
                guard failure == .inProgress || failure == .interrupted else {
                    throw SystemCallError("connect", failure, operand: "\(address)")
                }
                guard
                    try DescriptorIO.wait(for: .writable, on: number, interruptedBy: event, until: deadline) == .ready
                else {
                    throw SystemCallError("connect", .timedOut, operand: "\(address)")
                }
                if let failure = try connection.pendingError() {
                    throw SystemCallError("connect", failure, operand: "\(address)")
                }
            }
            try connection.configure()
            return connection
        } catch {
            throw SocketError(connecting: address, error)
        }
    }

    /// For a socket that was opened with `SOCK_NONBLOCK`.
    init(nonBlocking descriptor: consuming OwnedDescriptor) {
        owned = descriptor
    }

    /// Sends small messages at once and notices a machine that has gone.
    ///
    /// The corresponding calls are `setsockopt(TCP_NODELAY)`, `(SO_KEEPALIVE)`, `(TCP_KEEPIDLE)`,
    /// `(TCP_KEEPINTVL)` and `(TCP_KEEPCNT)`. Not
    /// `(TCP_USER_TIMEOUT)`: it would also end a connection whose other side lives and has not read for that long.
    public func configure(_ keepAlive: KeepAlive = KeepAlive()) throws(SystemCallError) {
        let tcp = Int32(IPPROTO_TCP)
        try setOption("TCP_NODELAY", tcp, TCP_NODELAY, 1)
        try setOption("SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, 1)
        try setOption("TCP_KEEPIDLE", tcp, TCP_KEEPIDLE, keepAlive.idle)
        try setOption("TCP_KEEPINTVL", tcp, TCP_KEEPINTVL, keepAlive.interval)
        try setOption("TCP_KEEPCNT", tcp, TCP_KEEPCNT, keepAlive.probes)
    }

    /// The other side; `nil` for a UNIX socket or one that is not connected any more.
    ///
    /// The corresponding call is `getpeername`.
    public var peerAddress: SocketAddress? {
        // SAFETY: the closure passes its arguments on.
        unsafe SocketAddress.of(owned.rawValue) { unsafe getpeername($0, $1, $2) }
    }

    /// This side; `nil` for a UNIX socket.
    ///
    /// The corresponding call is `getsockname`.
    public var localAddress: SocketAddress? {
        // SAFETY: the closure passes its arguments on.
        unsafe SocketAddress.of(owned.rawValue) { unsafe getsockname($0, $1, $2) }
    }

    /// The error that the kernel keeps for this socket, which is forgotten by asking.
    ///
    /// The corresponding call is `getsockopt(SO_ERROR)`.
    public func pendingError() throws(SystemCallError) -> Errno? {
        var value: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        let number = owned.rawValue
        try systemCall("getsockopt", operand: "SO_ERROR of descriptor \(number)") {
            // SAFETY: room for one number that lives during the call.
            unsafe getsockopt(number, SOL_SOCKET, SO_ERROR, &value, &length)
        }
        return value == 0 ? nil : Errno(rawValue: value)
    }

    /// Ends both directions; threads that wait for the socket see the end.
    ///
    /// The descriptor stays open.
    ///
    /// The corresponding call is `shutdown`.
    public func shutDown() {
        // ENOTCONN: the other side was faster.
        shutdown(owned.rawValue, Int32(SHUT_RDWR))
    }

    private func setOption(_ name: String, _ level: Int32, _ option: Int32, _ value: Int32) throws(SystemCallError) {
        var value = value
        let number = owned.rawValue
        try systemCall("setsockopt", operand: "\(name) of descriptor \(number)") {
            // SAFETY: one number that lives during the call.
            unsafe setsockopt(number, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
        }
    }
}

extension SocketError {
    /// What a failed connect means for the user.
    ///
    /// See: `man 2 connect`
    init(connecting address: SocketAddress, _ cause: SystemCallError) {
        switch cause.errno.rawValue {
        case ECONNREFUSED:
            self.init(.refused, "Nobody listens on \(address). Is the page server running there?", cause: cause)
        case ETIMEDOUT:
            self.init(
                .timedOut,
                "\(address) did not answer in time. Check the address, the port and firewalls between",
                cause: cause
            )
        case ENETUNREACH, EHOSTUNREACH, ENETDOWN:
            self.init(.unreachable, "There is no way to \(address). Check the address and the network", cause: cause)
        default:
            self.init(.systemCall, "Connecting to \(address) failed", cause: cause)
        }
    }
}
