// SPDX-License-Identifier: Apache-2.0

/// What is visible of a process from outside and must not differ before and after something that changes nothing:
/// mappings with their VmFlags, descriptors, signals, credentials, threads.
///
/// Left out is what an undisturbed process changes by itself: counters, resident sizes, whether a thread sleeps or runs.
public struct ProcessSnapshot: Sendable, Equatable {
    /// One line a fact, `kind name: value`, in a stable order.
    public let facts: [String]

    /// Looks at a process.
    public init(of pid: Int32) throws {
        let folder = "/proc/\(pid)"
        var facts: [String] = []
        facts += try Self.mappings(readText("\(folder)/smaps"))
        facts += try Self.descriptors(folder)
        for link in ["exe", "cwd", "root", "ns/mnt", "ns/pid", "ns/user", "ns/net", "ns/ipc", "ns/uts"] {
            facts.append("\(link): \(try readLink("\(folder)/\(link)"))")
        }
        for thread in try namesInFolder("\(folder)/task") {
            facts += try Self.thread("\(folder)/task/\(thread)", name: thread)
        }
        facts.append("cmdline: \(try readText("\(folder)/cmdline"))")
        for line in try readText("\(folder)/limits").split(separator: "\n") { facts.append("limit \(line)") }
        facts += try Self.timers(readText("\(folder)/timers"))
        self.facts = facts
    }

    /// What differs, each line with `-` (only before) or `+` (only now).
    public func changes(since before: ProcessSnapshot) -> [String] {
        let old = Set(before.facts)
        let new = Set(facts)
        return before.facts.filter { !new.contains($0) }.map { "- \($0)" }
            + facts.filter { !old.contains($0) }.map { "+ \($0)" }
    }

    private static func mappings(_ text: String) -> [String] {
        var result: [String] = []
        var header = ""
        for line in text.split(separator: "\n") {
            if line.hasPrefix("VmFlags:") {
                let fields = line.dropFirst("VmFlags:".count).split(separator: " ")
                result.append("mapping \(header) flags \(fields.joined(separator: " "))")
            } else if let first = line.split(separator: " ").first, first.contains("-"), !first.hasSuffix(":") {
                header = line.split(separator: " ").joined(separator: " ")
            }
        }
        return result
    }

    private static func descriptors(_ folder: String) throws -> [String] {
        var result: [String] = []
        for number in try namesInFolder("\(folder)/fd") {
            result.append("fd \(number): \(try readLink("\(folder)/fd/\(number)"))")
            for line in try readText("\(folder)/fdinfo/\(number)").split(separator: "\n") {
                // The time left and the ticks of a timerfd change by themselves, and the faults that wait in a userfaultfd.
                if ["it_value", "ticks", "pending:", "total:"].contains(where: line.hasPrefix) { continue }
                result.append("fd \(number): \(line.split(whereSeparator: \.isWhitespace).joined(separator: " "))")
            }
        }
        return result
    }

    private static func thread(_ folder: String, name: String) throws -> [String] {
        let kept: Set = [
            "Name", "State", "Tgid", "Pid", "TracerPid", "Uid", "Gid", "Groups", "NSpid", "NSsid", "NSpgid", "Umask",
            "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
            "NoNewPrivs", "Seccomp", "Seccomp_filters", "Cpus_allowed_list", "Threads",
        ]
        return try readText("\(folder)/status").split(separator: "\n").compactMap { line in
            let parts = line.split(separator: ":", maxSplits: 1).map(String.init)
            guard parts.count == 2, kept.contains(parts[0]) else { return nil }
            var value = parts[1].split(whereSeparator: \.isWhitespace).joined(separator: " ")
            // Running, sleeping and waiting for a disk are the same to a bystander; stopped, traced, dead are not.
            if parts[0] == "State", let letter = value.first, "RSD".contains(letter) { value = "alive" }
            return "thread \(name) \(parts[0]): \(value)"
        }
    }

    private static func timers(_ text: String) -> [String] {
        text.split(separator: "\n").map { "timer \($0)" }
    }
}

/// State letter of a process (`R`, `S`, `T`, `t`, `Z` ...), or nil when there is none.
public func processState(_ pid: Int32) -> Character? {
    guard let text = try? readText("/proc/\(pid)/stat"), let end = text.lastIndex(of: ")") else { return nil }
    return text[text.index(after: end)...].first { $0 != " " }
}

/// Whether a process exists and is no zombie.
public func processIsAlive(_ pid: Int32) -> Bool {
    guard let state = processState(pid) else { return false }
    return state != "Z" && state != "X"
}

/// Waits until a process looks as it did; the failure says what differs.
public func waitUntilUnchanged(_ pid: Int32, since before: ProcessSnapshot) throws {
    var changes: [String] = []
    try wait(for: "process \(pid) to be as before, but \(changes)") {
        changes = try ProcessSnapshot(of: pid).changes(since: before)
        return changes.isEmpty
    }
}
