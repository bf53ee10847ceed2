// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport

/// One run of `thaw track --format json`.
final class Tracking {
    let command: TestProcess
    private(set) var seen: [JSONValue] = []

    init(of pid: Int32, _ arguments: [String] = []) throws {
        command = try TestProcess(BuiltProduct.thaw, ["track", "-t", "\(pid)", "--format", "json"] + arguments)
    }

    /// The next line with this state.
    @discardableResult
    func wait(for state: String) throws -> JSONValue {
        while true {
            let line = try JSONValue(parsing: command.readLine())
            seen.append(line)
            if line["state"]?.string == state { return line }
        }
    }

    /// Reads to the end; how the command ended.
    func finish() throws -> Ending {
        for line in try command.output?.rest() ?? [] { seen.append(try JSONValue(parsing: line)) }
        return try command.waitForExit()
    }

    var states: [String] { seen.compactMap { $0["state"]?.string } }

    var rounds: [JSONValue] { seen.filter { $0["state"]?.string == "round" } }

    /// The last line, when it is the one that ends.
    var end: JSONValue? { seen.last.flatMap { $0["state"]?.string == "ended" ? $0 : nil } }
}

/// One run of a command to its end: its output, what it says on standard error, how it ended.
func runToEnd(_ path: String, _ arguments: [String]) throws -> (output: String, errors: String, ending: Ending) {
    try withProcess(path, arguments) { process in
        let lines = try process.output?.rest() ?? []
        return (lines.map { $0 + "\n" }.joined(), process.errors, try process.waitForExit())
    }
}

/// Whether a mapping of a process is write-protected by a userfaultfd.
func isTracked(_ pid: Int32) throws -> Bool {
    try readText("/proc/\(pid)/smaps").split(separator: "\n").contains {
        $0.hasPrefix("VmFlags:") && $0.contains(" uw")
    }
}
