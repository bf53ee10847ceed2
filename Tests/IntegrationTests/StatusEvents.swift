// SPDX-License-Identifier: Apache-2.0
import TestSupport

/// What a command says on its `--status-fd`, as a user's script would read it.
final class StatusEvents {
    private let process: TestProcess
    private(set) var seen: [JSONValue] = []

    init(of process: TestProcess) {
        self.process = process
    }

    /// The first event with this state, those seen earlier included; fails when the command failed or ended.
    @discardableResult
    func wait(for state: String, within limit: Duration = patience) throws -> JSONValue {
        if let known = first(state) { return known }
        while let event = try next(within: limit, waitingFor: state) {
            if event["state"]?.string == state { return event }
            guard event["state"]?.string != "failed" else { break }
        }
        throw TestFailure("no state '\(state)' but \(names) from \(process.commandLine); \(process.report())")
    }

    /// The event with this state that comes after `count` others of it.
    func wait(for state: String, after count: Int, within limit: Duration = patience) throws {
        while names.filter({ $0 == state }).count <= count {
            guard try next(within: limit, waitingFor: "another \(state)") != nil else {
                throw TestFailure("no other '\(state)' but \(names); \(process.report())")
            }
        }
    }

    /// The first event with this state and this number of pages or more, those seen earlier included.
    @discardableResult
    func wait(for state: String, pages: Int, within limit: Duration = patience) throws -> Int {
        func number(_ event: JSONValue) -> Int? {
            guard event["state"]?.string == state, let number = event["pages"]?.integer else { return nil }
            return number >= pages ? number : nil
        }
        if let known = seen.lazy.compactMap(number).first { return known }
        while let event = try next(within: limit, waitingFor: "\(state) \(pages)") {
            if let number = number(event) { return number }
        }
        throw TestFailure("no '\(state)' with \(pages) pages but \(seen); \(process.report())")
    }

    /// Reads up to the end.
    func finish() throws {
        while try next(within: patience, waitingFor: "the end") != nil {}
    }

    /// The first event seen with this state.
    func first(_ state: String) -> JSONValue? {
        seen.first { $0["state"]?.string == state }
    }

    /// States in the order in which they came.
    var names: [String] { seen.compactMap { $0["state"]?.string } }

    private func next(within limit: Duration, waitingFor state: String) throws -> JSONValue? {
        let line: String?
        do {
            line = try process.status?.next(within: limit)
        } catch {
            throw TestFailure("\(error) for '\(state)' after \(names) from \(process.commandLine); \(process.report())")
        }
        guard let line else { return nil }
        let event = try JSONValue(parsing: line)
        seen.append(event)
        return event
    }
}
