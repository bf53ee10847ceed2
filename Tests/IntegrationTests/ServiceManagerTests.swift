// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// What a service manager is told, by the protocol of sd_notify(3); `Tests/Units/run` has a real one.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: offers another process"))
struct ServiceManagerTests {
    @Test(arguments: [true, false])
    func aPageServerIsReadyOnceItListens(isAbstract: Bool) throws {
        let folder = try Scratch("service-manager")
        let name = isAbstract ? "@thaw-test-\(getpid())" : "\(folder.path)/notify"
        let socket = try DatagramSocket(name)
        try withMovableVictim("carried", ["heap"]) { victim in
            let server = try Move.startServer(victim.pid, environment: ["NOTIFY_SOCKET=\(name)"])
            defer { server.end() }
            #expect(try socket.receive() == "READY=1")
            try StatusEvents(of: server).wait(for: "listening")
        }
    }

    /// It goes on all the same.
    @Test func aServiceManagerThatIsNotThereIsNoReasonToGiveUp() throws {
        try withMovableVictim("carried", ["heap"]) { victim in
            let server = try Move.startServer(victim.pid, environment: ["NOTIFY_SOCKET=/nowhere/notify"])
            defer { server.end() }
            try StatusEvents(of: server).wait(for: "listening")
            try wait(for: "the warning") { server.report().contains("/nowhere/notify") }
        }
    }
}

/// A UNIX socket that datagrams come to.
private final class DatagramSocket {
    private let descriptor: Int32

    /// - Parameter name: a path, or an abstract name behind @.
    init(_ name: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(name.utf8)
        let isAbstract = bytes.first == UInt8(ascii: "@")
        // SAFETY: the names of tests are shorter than the field.
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { path in
            for (index, byte) in bytes.enumerated() { unsafe path[index] = index == 0 && isAbstract ? 0 : byte }
        }
        let size = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count + (isAbstract ? 0 : 1))
        // SAFETY: the address lives during the call and is as long as it says.
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe bind(descriptor, $0, size) }
        }
        guard result == 0 else { throw TestFailure("bind \(name): errno \(errno)") }
    }

    deinit { close(descriptor) }

    func receive() throws -> String {
        var watch = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        // SAFETY: one element, for the time of the call.
        guard unsafe poll(&watch, 1, Int32(60_000 * slowness)) > 0 else { throw TestFailure("no datagram") }
        var bytes = [UInt8](repeating: 0, count: 256)
        // SAFETY: the array is as long as it says and outlives the call.
        let count = unsafe bytes.withUnsafeMutableBytes { unsafe recv(descriptor, $0.baseAddress, $0.count, 0) }
        return String(decoding: bytes[..<max(count, 0)], as: UTF8.self)
    }
}
