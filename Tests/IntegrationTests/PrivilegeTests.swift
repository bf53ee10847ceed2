// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// What each thread of a page server may do while it serves, and that a moved process is what it was all the same.
@Suite(
    .serialized,
    .timeLimit(.minutes(3 * slowness)),
    .enabled(if: Machine.isRoot, "needs root: run deploy/test as root")
)
struct PrivilegeTests {
    /// Bits of capabilities(7).
    private enum Bit {
        static let dacOverride: UInt64 = 1 << 1
        static let kill: UInt64 = 1 << 5
        static let sysPtrace: UInt64 = 1 << 19
        static let sysNice: UInt64 = 1 << 23
        static let checkpointRestore: UInt64 = 1 << 40
    }

    private struct ThreadStatus {
        let tid: Int32
        let name: String
        private let fields: [Substring: Substring]

        init(_ pid: Int32, _ tid: Int32) throws {
            self.tid = tid
            let text = try readText("/proc/\(pid)/task/\(tid)/status")
            var fields: [Substring: Substring] = [:]
            for line in text.split(separator: "\n") {
                let parts = line.split(separator: ":", maxSplits: 1)
                if parts.count == 2 { fields[parts[0]] = parts[1].drop { $0 == "\t" } }
            }
            self.fields = fields
            name = String(fields["Name"] ?? "")
        }

        func capabilities(_ key: Substring = "CapEff") throws -> UInt64 {
            guard let value = fields[key].flatMap({ UInt64($0, radix: 16) }) else { throw TestFailure("no \(key)") }
            return value
        }

        func text(_ key: Substring) -> String { String(fields[key] ?? "") }
    }

    private func threads(of pid: Int32) throws -> [ThreadStatus] {
        // One may end meanwhile.
        try namesInFolder("/proc/\(pid)/task").compactMap { Int32($0) }.compactMap { try? ThreadStatus(pid, $0) }
    }

    private func thread(_ prefix: String, of pid: Int32) throws -> ThreadStatus {
        var found: ThreadStatus?
        try wait(for: "a thread \(prefix)") {
            found = try threads(of: pid).first { $0.name.hasPrefix(prefix) }
            return found != nil
        }
        guard let found else { throw TestFailure("no thread \(prefix)") }
        return found
    }

    /// Lends a move that stands still in the middle, since nothing is carried any more.
    private func withMoveInTheMiddle(_ body: (MovableVictim, Move, CuttingProxy, Int32) throws -> Void) throws {
        try withMovableVictim("carried", ["large", "anonymous", "settings"]) { victim in
            var options = Move.Options()
            options.isProxied = true
            let move = try Move(of: victim.pid, options)
            let proxy = try #require(move.proxy)
            let copy = try move.waitUntilRunning()
            proxy.stall(true)
            try body(victim, move, proxy, copy)
            proxy.stall(false)
            try move.waitUntilComplete()
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
        }
    }

    @Test func eachThreadOfAPageServerHasWhatItNeedsAndNoMore() throws {
        try withMoveInTheMiddle { _, move, _, _ in
            let pid = move.server.pid
            // Somebody who says nothing is greeted for as long as that may take.
            let stranger = try openSocket(to: move.port)
            defer { close(stranger) }
            let tracer = Bit.sysPtrace | Bit.kill | Bit.dacOverride | Bit.checkpointRestore
            let allowed: [(name: String, bits: UInt64)] = [
                ("greet-", 0), ("accept-", 0), ("starter-", Bit.sysPtrace | Bit.dacOverride | Bit.sysNice),
                ("fault-", Bit.sysPtrace), ("bulk-", Bit.sysPtrace), ("thaw", tracer),
            ]
            // In a container root may have less.
            let own = try ThreadStatus(getpid(), getpid()).capabilities()
            for (name, needed) in allowed {
                let status = try thread(name, of: pid)
                let bits = needed & own
                #expect(try status.capabilities() == bits, "\(status.name)")
                #expect(try status.capabilities("CapPrm") == bits, "\(status.name)")
            }
            for status in try threads(of: pid) {
                #expect(status.text("NoNewPrivs") == "1", "\(status.name)")
                #expect(allowed.contains { status.name.hasPrefix($0.name) }, "\(status.name) is not known")
            }
        }
    }

    /// A thread without capabilities may be looked at by who has none to spare, unless the program has said that nobody may: then
    /// there is no core file of it either.
    @Test func nobodyButATracerLooksIntoAPageServer() throws {
        guard let setpriv = Machine.program("setpriv") else { throw TestFailure("setpriv is missing (util-linux)") }
        func looks(at path: String) throws -> Bool {
            // CAP_PERFMON would do for reading.
            let words = ["--inh-caps=-all", "--bounding-set=-all", "cat", path]
            return try withProcess(setpriv, words, options: .init(output: .null)) { try $0.waitForExit() == .exited(0) }
        }
        try withMoveInTheMiddle { victim, move, _, _ in
            let acceptor = try thread("accept-", of: move.server.pid).tid
            #expect(try !looks(at: "/proc/\(move.server.pid)/task/\(acceptor)/environ"))
            // Proved on one that has as few capabilities and has not said so.
            let bare = ["--inh-caps=-all", "--bounding-set=-all", "sleep", "100"]
            try withProcess(setpriv, bare) { other in
                try wait(for: "the sleep") { try readText("/proc/\(other.pid)/comm") == "sleep\n" }
                #expect(try looks(at: "/proc/\(other.pid)/environ"))
            }
        }
    }

    @Test func aMovedProcessMayDoWhatItMightAndNoLess() throws {
        try withMovableVictim("carried", ["heap", "settings"]) { victim in
            func settings(_ pid: Int32) throws -> [String] {
                let status = try ThreadStatus(pid, pid)
                let keys: [Substring] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"]
                return keys.map { "\($0) \(status.text($0))" } + [try readText("/proc/\(pid)/limits")]
            }
            let before = try settings(victim.pid)
            let move = try Move(of: victim.pid)
            let copy = try move.waitUntilRunning()
            #expect(try settings(copy) == before)
            try move.waitUntilComplete()
            let verdict = try victim.verdict()
            #expect(verdict == "ok carried")
        }
    }

    private func openSocket(to port: Int) throws -> Int32 {
        let number = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        // SAFETY: one address that lives during the call.
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(number, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard number >= 0, result == 0 else { throw TestFailure("cannot connect to port \(port)") }
        return number
    }
}
