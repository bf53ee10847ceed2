// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport

/// Two network namespaces as two machines, joined by a cable that can be pulled.
///
/// Each namespace lives as long as a process that reads from the test: whatever ends the test, the namespaces and the cable are gone with it.
final class Cable {
    enum Side: Int, CaseIterable {
        case source
        case destination
    }

    /// Programs that it takes, or nil where one is missing.
    static let programs = Machine.program("ip").flatMap { ip in
        Machine.program("unshare").flatMap { unshare in
            Machine.program("nsenter").map { (ip: ip, unshare: unshare, nsenter: $0) }
        }
    }

    let sourceAddress = "10.89.0.1"
    private let addresses = ["10.89.0.1/24", "10.89.0.2/24"]
    private let programs: (ip: String, unshare: String, nsenter: String)
    private let holders: [TestProcess]

    init() throws {
        guard let programs = Self.programs else { throw TestFailure("ip, unshare or nsenter is missing") }
        self.programs = programs
        let own = try readLink("/proc/self/ns/net")
        holders = try Side.allCases.map { _ in
            try TestProcess(programs.unshare, ["--net", "cat"], options: .init(input: .pipe, output: .null))
        }
        for holder in holders {
            try wait(for: "a namespace") { try readLink("/proc/\(holder.pid)/ns/net") != own }
        }
        let ends = holders.map { "\($0.pid)" }
        try run(
            programs.ip,
            ["link", "add", "end", "netns", ends[0], "type", "veth", "peer", "name", "end", "netns", ends[1]]
        )
        for side in Side.allCases {
            try run(side, ["address", "add", addresses[side.rawValue], "dev", "end"])
            try run(side, ["link", "set", "lo", "up"])
            try run(side, ["link", "set", "end", "up"])
        }
    }

    deinit {
        for holder in holders { holder.end() }
    }

    /// Whether anything is carried; neither side is told.
    func plug(_ isIn: Bool) throws {
        try run(.destination, ["link", "set", "end", isIn ? "up" : "down"])
    }

    /// The words that start a program on one side: what runs, and what goes before its arguments.
    func command(_ side: Side, _ program: String = BuiltProduct.thaw) -> (String, [String]) {
        (programs.nsenter, ["--net=/proc/\(holders[side.rawValue].pid)/ns/net", "--", program])
    }

    private func run(_ side: Side, _ words: [String]) throws {
        let (program, prefix) = command(side, programs.ip)
        try run(program, prefix + words)
    }

    private func run(_ program: String, _ words: [String]) throws {
        try withProcess(program, words, options: .init(output: .null)) { process in
            guard try process.waitForExit() == .exited(0) else {
                throw TestFailure("\(process.commandLine): \(process.report())")
            }
        }
    }
}
