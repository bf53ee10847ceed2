// SPDX-License-Identifier: Apache-2.0

/// A program that handles page faults by a userfaultfd of its own, as `Victim own-uffd` has them, and what it is refused for.
public struct FaultHandlingProgram: Sendable, CustomStringConvertible {
    /// What tells of it, by the words of the refused kinds.
    public enum Sign: String, Sendable {
        case descriptor = "userfaultfd"
        case registration = "userfaultfd-registration"
        case socket
        case child = "children"
        case threadTable = "thread-descriptor-table"
        case device
    }

    /// What the victim is told.
    public let words: String
    /// Everything that is found, and nothing else.
    public let signs: Set<Sign>

    /// One that is told `words` and shows `signs`.
    public init(_ words: String, _ signs: Sign...) {
        self.words = words
        self.signs = Set(signs)
    }

    /// For messages and names of tests.
    public var description: String { words }

    /// All that are found while they run.
    ///
    /// Each sign is the only one of some program, so that none can be missing without a test that fails.
    public static let all = [
        Self("none", .descriptor),
        Self("none,device-only", .device),
        Self("missing", .descriptor, .registration),
        Self("wp", .descriptor, .registration),
        Self("minor", .descriptor, .registration),
        Self("async", .descriptor, .registration),
        Self("missing,device", .descriptor, .registration),
        Self("missing,inherited", .descriptor, .registration),
        Self("missing,user", .descriptor, .registration),
        Self("wp,device,inherited,user", .descriptor, .registration),
        Self("missing,passed", .registration),
        Self("wp,passed", .registration),
        Self("minor,passed", .registration),
        Self("async,passed", .registration),
        Self("none,queued", .socket),
        Self("missing,queued", .socket, .registration),
        Self("missing,queued-elsewhere", .registration),
        Self("missing,child", .child, .descriptor, .registration),
        Self("missing,child-table", .child, .descriptor, .registration),
        Self("none,thread-table", .threadTable, .descriptor),
        Self("missing,thread-table", .threadTable, .descriptor, .registration),
        Self("missing,fork", .registration),
    ]

    /// All that register when the page server has looked at them already.
    public static let late = [
        Self("missing,later", .descriptor, .registration),
        Self("missing,later,large", .descriptor, .registration),
        Self("async,later", .descriptor, .registration),
        Self("missing,later,passed", .registration),
        Self("wp,later,passed,large", .registration),
    ]

    /// Starts it, waits until it handles faults (or could), lends it to `body` and asks it whether all was well.
    public func run<Result>(_ body: (Running) throws -> Result) throws -> Result {
        let folder = try Scratch("own-uffd")
        return try withProcess(BuiltProduct.victim, ["own-uffd", folder.path, words]) { process in
            var running = Running(process: process, folder: folder, pid: process.pid)
            try running.listen(for: "ready")
            let result = try body(running)
            try writeFile(folder.file("go"), "")
            let last = try process.output?.rest().last
            guard last == "ok own-uffd" else { throw TestFailure("\(words): \(last ?? process.report())") }
            return result
        }
    }

    /// One that runs.
    public struct Running {
        /// What was started.
        public let process: TestProcess
        let folder: Scratch
        /// The process in question, which can be a child of the started one.
        public internal(set) var pid: Int32
        /// Numbers and addresses that a message has to contain.
        public internal(set) var objects: [String] = []

        /// Makes one of ``FaultHandlingProgram/late`` register.
        public mutating func register() throws {
            try writeFile(folder.file("register"), "")
            try listen(for: "registered")
        }

        mutating func listen(for end: String) throws {
            while true {
                let line = try process.readLine()
                if line == end { return }
                if line.hasPrefix("object ") { objects.append(String(line.dropFirst("object ".count))) }
                if line.hasPrefix("victim ") { pid = Int32(line.dropFirst("victim ".count)) ?? pid }
                if line.hasPrefix("skip ") { throw TestFailure(line) }
            }
        }
    }
}
