// SPDX-License-Identifier: Apache-2.0
import FrameTransport
import LinuxSystem
import PageWire
import Paging
import TLSSession
import TestSupport

/// A page server that is certified and misbehaves: it stands in front of a true one, ends its TLS, and changes what that sends.
final class LyingSource: Sendable {
    /// What to send in place of a whole frame of the true one: the same, something else, more of them, or nothing.
    typealias Lie = @Sendable (ConnectionKind, FrameKind, [UInt8]) -> [UInt8]

    let port: UInt16
    private let target: UInt16
    private let lie: Lie
    private let stop: EventDescriptor
    private let threads = Lock(0)

    /// - Parameters:
    ///   - target: where the true page server listens.
    ///   - lie: called for one frame at a time.
    init(infrontOf target: UInt16, _ lie: @escaping Lie) throws {
        self.target = target
        self.lie = lie
        stop = try EventDescriptor()
        let listener = try Listener(host: "localhost", port: 0)
        port = listener.address.port
        threads.withLock { $0 += 1 }
        try NamedThread("liar") { [self] in
            try? accept(listener)
            threads.withLock { $0 -= 1 }
        }.detach()
    }

    /// Ends every connection.
    func end() throws {
        stop.signal()
        try wait(for: "the threads of the lying source") { threads.withLock { $0 } == 0 }
    }

    private func accept(_ listener: Listener) throws {
        while try DescriptorIO.wait(for: .readable, on: listener.descriptor, interruptedBy: stop, until: .never)
            == .ready
        {
            guard let socket = try listener.accept() else { continue }
            let handover = try Handover<TLSConnection>()
            let files = try TLSFiles(TLSLocation(directory: try Certificates.directory()), role: .server)
            handover.put(try TLSConnection(accepted: socket, try TLSContext.server(files, allowing: .anyCertified)))
            threads.withLock { $0 += 1 }
            try NamedThread("liar") { [self] in
                if let client = handover.take() { try? serve(client) }
                threads.withLock { $0 -= 1 }
            }.detach()
        }
    }

    private func serve(_ client: TLSConnection) throws {
        let deadline = Deadline.after(patience)
        client.interruption = stop
        try client.handshake(until: deadline)
        let files = try TLSFiles(TLSLocation(directory: try Certificates.directory()), role: .client)
        let socket = try StreamSocket.connect(to: "localhost", port: target, until: deadline)
        let server = try TLSConnection(connected: socket, try TLSContext.client(files), serverName: "localhost")
        server.interruption = stop
        try server.handshake(until: deadline)
        defer {
            client.close()
            server.close()
        }
        let kind = try greet(client, server)
        let poller = try Poller(capacity: 3)
        try poller.add(client.descriptor, token: 0)
        try poller.add(server.descriptor, token: 1)
        try poller.add(stop.descriptor, token: 2)
        var fromSource: [UInt8] = []
        while true {
            for bytes in try available(client) { try server.writeFully(bytes, until: deadline) }
            for bytes in try available(server) { fromSource += bytes }
            while let frame = Self.takeFrame(&fromSource) {
                let word = frame.kind.map { lie(kind, $0, frame.bytes) } ?? frame.bytes
                if !word.isEmpty { try client.writeFully(word, until: deadline) }
            }
            let count = try poller.wait()
            for index in 0..<count where poller[index].token == 2 { return }
        }
    }

    /// Passes the greeting on, which says what the connection is for.
    private func greet(_ client: TLSConnection, _ server: TLSConnection) throws -> ConnectionKind {
        let hello = try client.readFully(count: FrameHeader.byteCount + 40, until: .after(patience))
        try server.writeFully(hello, until: .after(patience))
        guard let kind = ConnectionKind(rawValue: hello[FrameHeader.byteCount + 6]) else {
            throw TestFailure("no hello")
        }
        return kind
    }

    private static let buffer = 64 << 10

    /// Everything that has come; throws when the connection has ended.
    private func available(_ connection: TLSConnection) throws -> [[UInt8]] {
        let buffer = try TransferBuffer(capacity: Self.buffer)
        var all: [[UInt8]] = []
        while true {
            switch try connection.read(into: buffer, at: 0, count: Self.buffer) {
            case .bytes(let count): all.append(buffer.withBytes(0..<count) { span in span.indices.map { span[$0] } })
            case .wouldBlock: return all
            case .closed, .truncated: throw TestFailure("ended")
            }
        }
    }

    private static func takeFrame(_ bytes: inout [UInt8]) -> (kind: FrameKind?, bytes: [UInt8])? {
        guard bytes.count >= FrameHeader.byteCount else { return nil }
        let length = (0..<4).reduce(0) { $0 | Int(bytes[$1]) << (8 * $1) } + FrameHeader.byteCount
        guard bytes.count >= length else { return nil }
        defer { bytes.removeFirst(length) }
        return (FrameKind(rawValue: bytes[4]), Array(bytes[..<length]))
    }
}

/// A whole frame of pages, to lie about.
struct PagesToAlter {
    var frame: PageFrame
    var content: [UInt8]

    init(_ bytes: [UInt8], on connection: ConnectionKind) throws {
        frame = try PageFrame(decoding: bytes.span, on: connection, from: .source)
        content = Array(bytes[PageFrame.byteCount...])
    }

    /// As it travels, with the digest as it is in ``frame``.
    var bytes: [UInt8] {
        var head = [UInt8](repeating: 0, count: PageFrame.byteCount)
        var span = head.mutableSpan
        frame.encode(into: &span)
        return head + content
    }

    /// The digest over what is in it now.
    var trueDigest: PageDigest {
        var digest = PageDigest()
        for index in 0..<Int(frame.count) {
            let address = VirtualAddress(frame.address.rawValue + UInt64(index) << 12)
            if content.isEmpty {
                digest.addZeros(address: address)
            } else {
                digest.add(address: address, page: content.span, at: index * 4096)
            }
        }
        return digest
    }
}
