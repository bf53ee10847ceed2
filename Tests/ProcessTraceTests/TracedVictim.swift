// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import ProcessTrace
internal import TestSupport

/// A victim and what is needed to trace it.
struct TracedVictim {
    let process: TestProcess
    /// What it printed before `ready`.
    let lines: [String]

    init(_ arguments: String...) throws {
        process = try TestProcess(BuiltProduct.victim, arguments, options: .init(input: .pipe))
        var lines: [String] = []
        while true {
            guard let line = try process.output?.next() else { throw TestFailure("victim \(arguments) ended early") }
            if line == "ready" { break }
            lines.append(line)
        }
        self.lines = lines
    }

    var pid: Int32 { process.pid }

    /// Sends a line and returns the one that answers it.
    func ask(_ line: String) throws -> String {
        try process.input?.write(line + "\n")
        guard let answer = try process.output?.next() else { throw TestFailure("the victim has ended") }
        return answer
    }

    /// The value behind a name in the lines before `ready`.
    func value(_ name: String) throws -> UInt64 {
        for line in lines {
            let words = line.split(separator: " ")
            if words.count == 2, words[0] == name,
                let value = UInt64(words[1].drop { $0 == "0" || $0 == "x" }, radix: 16)
            {
                return value
            }
        }
        throw TestFailure("the victim did not print \"\(name)\"")
    }

    /// Stops it, runs `body` and lets it go.
    func frozen<Value>(_ body: (TraceeGroup, SystemCallInjector) throws -> Value) throws -> Value {
        let group = try TraceeGroup.freeze(pid, deadline: .after(patience))
        let value: Value
        do {
            value = try body(group, try SystemCallInjector(memory: ProcessMemory(pid: pid)))
        } catch {
            try? group.thaw()
            throw error
        }
        try group.thaw()
        return value
    }
}
