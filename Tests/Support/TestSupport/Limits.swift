// SPDX-License-Identifier: Apache-2.0

/// How many mappings a process may have, while a test needs more of them (`vm.max_map_count`).
public struct MappingLimit {
    private static let file = "/proc/sys/vm/max_map_count"
    private let before: String

    /// Allows so many.
    public init(_ count: Int) throws {
        before = try readText(Self.file)
        try writeFile(Self.file, "\(count)")
    }

    /// Allows as many as before.
    public func putBack() {
        try? writeFile(Self.file, before)
    }
}

/// A figure of `/proc/PID/status` in kB, as `VmRSS`.
public func memoryKilobytes(_ key: String, of pid: Int32) throws -> Int {
    let line = try readText("/proc/\(pid)/status").split(separator: "\n").first { $0.hasPrefix("\(key):") }
    let words = (line ?? "").split(whereSeparator: \.isWhitespace)
    guard words.count > 1, let number = Int(words[1]) else { throw TestFailure("no \(key) of \(pid)") }
    return number
}
