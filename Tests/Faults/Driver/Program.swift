// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import TestSupport

/// One side of a move, and what it has said.
final class Program {
    let process: TestProcess
    private let statusFile: String
    /// States in the order in which they came.
    private(set) var states: [String] = []
    private var events: [JSONValue] = []
    private var stoppedSince: ContinuousClock.Instant?
    private var endedAt: ContinuousClock.Instant?

    init(_ command: String, _ arguments: [String], _ environment: [String], _ folder: Scratch) throws {
        statusFile = folder.file("\(command).status")
        process = try TestProcess(
            BuiltProduct.thaw,
            [command] + arguments + ["--status-fd", "1"],
            options: .init(output: .file(statusFile), environment: environment)
        )
    }

    /// Reads what is new.
    @discardableResult
    func look() throws -> [String] {
        let text = (try? readText(statusFile)) ?? ""
        let lines = text.split(separator: "\n", omittingEmptySubsequences: true)
        let whole = text.hasSuffix("\n") ? lines.count : max(0, lines.count - 1)
        for line in lines[..<whole].dropFirst(events.count) {
            let event = try JSONValue(parsing: String(line))
            events.append(event)
            states.append(event["state"]?.string ?? "?")
        }
        if endedAt == nil, try process.pollForExit() != nil { endedAt = .now }
        return states
    }

    /// A number of the first event with this state.
    func number(_ key: String, of state: String) -> Int? {
        events.first { $0["state"]?.string == state }?[key]?.integer
    }

    var hasEnded: Bool { endedAt != nil }

    /// Whether it ended so long ago.
    func ended(before time: Duration) -> Bool {
        endedAt.map { ContinuousClock.now - $0 > time } ?? false
    }

    /// What it wrote to its standard error.
    var errors: String { process.errors }

    /// Lets it go on when it has been stopped for so long.
    func continueIfStopped(after time: Duration) {
        guard !hasEnded, processState(process.pid) == "T" else {
            stoppedSince = nil
            return
        }
        let since = stoppedSince ?? .now
        stoppedSince = since
        if ContinuousClock.now - since > time { process.signal(SIGCONT) }
    }

    /// Ends it; a program that asks to be told twice is told twice.
    func end(by signal: Int32) throws {
        guard try process.pollForExit() == nil else { return }
        process.signal(SIGCONT)
        process.signal(signal)
        if (try? process.waitForExit(within: .seconds(2))) == nil { process.signal(signal) }
        try process.waitForExit(within: .seconds(20))
    }

    /// Waits until it has ended by itself.
    func wait(for time: Duration) throws {
        process.signal(SIGCONT)
        try process.waitForExit(within: time)
    }
}
