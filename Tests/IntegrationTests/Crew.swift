// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport

/// What works for one restored process: restorers and keepers, found by the journal that all of them map.
struct Crew {
    let journal: String

    init(of restorer: Int32) throws {
        guard let journal = Self.journal(of: restorer) else { throw TestFailure("\(restorer) has no journal") }
        self.journal = journal
    }

    /// The inode.
    private static func journal(of pid: Int32) -> String? {
        let maps = (try? readText("/proc/\(pid)/maps")) ?? ""
        let line = maps.split(separator: "\n").first { $0.contains("memfd:thaw-journal") }
        return line.flatMap { $0.split(separator: " ").dropFirst(4).first.map(String.init) }
    }

    private func members(_ name: String) throws -> [Int32] {
        try namesInFolder("/proc").compactMap { Int32($0) }.filter { pid in
            (try? readText("/proc/\(pid)/comm")) == name + "\n" && Self.journal(of: pid) == journal
        }
    }

    func restorer(otherThan dead: [Int32] = []) throws -> Int32? {
        try members("thaw").first { !dead.contains($0) }
    }

    func keeper(otherThan dead: [Int32] = []) throws -> Int32? {
        try members("thaw-keeper").first { !dead.contains($0) }
    }

    /// Nothing of it is left.
    func waitUntilGone() throws {
        try wait(for: "the end of all helpers") { try members("thaw").isEmpty && members("thaw-keeper").isEmpty }
    }

    /// Kills all of it; those that watch are stopped first, so that nobody takes over.
    func kill() {
        let keepers = (try? members("thaw-keeper")) ?? []
        for keeper in keepers { Glibc.kill(keeper, SIGSTOP) }
        for pid in ((try? members("thaw")) ?? []) + keepers { Glibc.kill(pid, SIGKILL) }
    }

    /// The guardian that a restorer has started.
    static func guardian(of restorer: Int32) throws -> Int32? {
        try namesInFolder("/proc").compactMap { Int32($0) }.first { pid in
            guard let stat = try? readText("/proc/\(pid)/stat"), stat.contains("(thaw-guardian)") else { return false }
            return stat.split(separator: ")").last?.split(separator: " ").dropFirst().first == "\(restorer)"
        }
    }
}
