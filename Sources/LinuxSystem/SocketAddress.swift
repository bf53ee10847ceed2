// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// An IPv4 or IPv6 address with a port, as bind(2) and connect(2) take it.
public struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
    /// A `struct sockaddr` of the length that its family has.
    let bytes: [UInt8]
    /// `AF_INET` or `AF_INET6`.
    let family: Int32

    /// The address in numbers, an IPv6 one without brackets.
    public let host: String
    /// The port.
    public let port: UInt16

    /// Address and port in numbers: `127.0.0.1:7443`, `[::1]:7443`.
    public var description: String {
        family == AF_INET6 ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    /// Takes over what the kernel or the resolver wrote; `nil` for other families.
    init?(bytes: [UInt8], family: Int32) {
        guard family == AF_INET || family == AF_INET6 else { return nil }
        var host = [CChar](repeating: 0, count: 128)
        var service = [CChar](repeating: 0, count: 32)
        // SAFETY: all three arrays live during the call, with their own counts; the function ends its texts with NUL.
        let result = unsafe bytes.withUnsafeBytes { raw in
            unsafe getnameinfo(
                raw.baseAddress?.assumingMemoryBound(to: sockaddr.self),
                socklen_t(raw.count),
                &host,
                socklen_t(host.count),
                &service,
                socklen_t(service.count),
                NI_NUMERICHOST | NI_NUMERICSERV
            )
        }
        guard result == 0, let port = UInt16(Self.text(service)) else { return nil }
        self.bytes = bytes
        self.family = family
        self.host = Self.text(host)
        self.port = port
    }

    /// The addresses of a host name, or the one of an address in numbers; in the order of the resolver.
    ///
    /// This may wait for a name server, however long the system's settings allow.
    ///
    /// - Parameter host: a name, an IPv4 address, or an IPv6 address with or without brackets.
    ///
    /// The corresponding call is `getaddrinfo`.
    public static func resolve(_ host: String, port: UInt16) throws(SocketError) -> [SocketAddress] {
        var name = host
        if name.hasPrefix("[") && name.hasSuffix("]") { name = String(name.dropFirst().dropLast()) }
        guard !name.isEmpty, !name.utf8.contains(0) else {
            throw SocketError(.unresolvable, "\"\(host)\" is not a host name or an address")
        }
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        unsafe hints.ai_flags = AI_NUMERICSERV
        var list: UnsafeMutablePointer<addrinfo>?
        // SAFETY: strings and structures live during the call; the list is freed below.
        let result = unsafe getaddrinfo(name, "\(port)", &hints, &list)
        guard result == 0 else {
            // SAFETY: a constant text of the C library.
            let reason = unsafe gai_strerror(result).map { unsafe String(cString: $0) } ?? "error \(result)"
            throw SocketError(
                .unresolvable,
                "Host \"\(host)\" cannot be resolved: \(reason). Give an address or a name that resolves"
            )
        }
        defer { unsafe freeaddrinfo(list) }
        var addresses: [SocketAddress] = []
        var entry = unsafe list
        // SAFETY: a list of the C library that ends with NULL and lives until freeaddrinfo.
        while let current = unsafe entry?.pointee {
            if let start = unsafe current.ai_addr {
                let raw = unsafe UnsafeRawBufferPointer(start: start, count: Int(current.ai_addrlen))
                if let address = SocketAddress(bytes: unsafe [UInt8](raw), family: unsafe current.ai_family) {
                    addresses.append(address)
                }
            }
            unsafe entry = unsafe current.ai_next
        }
        guard !addresses.isEmpty else {
            throw SocketError(.unresolvable, "Host \"\(host)\" has neither an IPv4 nor an IPv6 address")
        }
        return addresses
    }

    /// What `getsockname` or `getpeername` says about a socket.
    static func of(
        _ socket: Int32,
        _ call: (Int32, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?) -> Int32
    ) -> SocketAddress? {
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var bytes = [UInt8](repeating: 0, count: Int(length))
        // SAFETY: the kernel writes at most `length` bytes into the array's own memory.
        let result = unsafe bytes.withUnsafeMutableBytes { raw in
            unsafe call(socket, raw.baseAddress?.assumingMemoryBound(to: sockaddr.self), &length)
        }
        guard result == 0, length >= 2, Int(length) <= bytes.count else { return nil }
        let family = Int32(bytes[0]) | Int32(bytes[1]) << 8
        return SocketAddress(bytes: Array(bytes[..<Int(length)]), family: family)
    }

    private static func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
