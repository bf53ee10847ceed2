// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import TestSupport

/// Measures moves on this machine next to the floor, and prints tables and one JSON object.
@main
struct Benchmarks {
    private static let programs = ["thaw", "Floor", "TrackingFloor", "BenchmarkVictim", "CallCounter", "Link"]

    static func main() {
        do {
            let plan = try Plan(arguments: Array(CommandLine.arguments.dropFirst()))
            guard Machine.isRoot else { throw TestFailure("moving a process needs root") }
            for program in programs where !fileExists(BuiltProduct.path(program)) {
                throw TestFailure("\(BuiltProduct.path(program)) is missing; use Tests/Benchmarks/run")
            }
            if let folder = plan.pictures { try makeFolder(folder) }
            try Report(measuring: plan).write(to: plan.jsonFile)
        } catch let usage as Plan.Usage {
            printError("\(usage)")
            exit(64)
        } catch {
            printError("benchmarks: \(error)")
            exit(1)
        }
    }

    private static func printError(_ text: String) {
        StandardStream.error.write(text + "\n")
    }
}

/// What is to be measured.
struct Plan {
    /// What was wrong with the arguments.
    struct Usage: Error, CustomStringConvertible {
        let description = """
            usage: Benchmarks [--quick] [--only PART,...] [--json FILE] [--svg FOLDER] [--delay MICROSECONDS] [--bandwidth MBIT]
              PART         digest, pause, latency, bulk, threads, orders, links,
                           application; moves, sizes, writers, tracking, or precopy for these four
              --quick      less memory, fewer cases, once each: whether it works, no figures to quote
              --svg        pictures of what has a picture
              --delay, --bandwidth
                           the link of the part links: added to a round trip, and carried each way; else three usual ones
            """
    }

    enum Part: String, CaseIterable {
        case digest
        case pause
        case latency
        case bulk
        case threads
        case orders
        case links
        case application
        case moves
        case sizes
        case writers
        case tracking

        /// The parts that a word of the command line means.
        static func named(_ word: Substring) -> [Part] {
            if word == "precopy" { return [.moves, .sizes, .writers, .tracking] }
            return Part(rawValue: String(word)).map { [$0] } ?? []
        }
    }

    var isQuick = false
    var parts = Part.allCases
    var jsonFile: String?
    /// A folder for pictures.
    var pictures: String?
    /// What the part of links goes through.
    var wires = [
        Wire(delay: 200, megabits: 10_000), Wire(delay: 200, megabits: 1000), Wire(delay: 50_000, megabits: 1000),
    ]

    /// Runs for one row; the row shows the one in the middle.
    var repetitions: Int { isQuick ? 1 : 3 }

    init(arguments: [String]) throws {
        var remaining = arguments[...]
        var asked: Wire?
        while let word = remaining.popFirst() {
            switch word {
            case "--quick": isQuick = true
            case "--only":
                let words = remaining.popFirst()?.split(separator: ",") ?? []
                guard !words.isEmpty, words.allSatisfy({ !Part.named($0).isEmpty }) else { throw Usage() }
                let wanted = words.flatMap(Part.named)
                parts = Part.allCases.filter(wanted.contains)
            case "--json":
                guard let file = remaining.popFirst() else { throw Usage() }
                jsonFile = file
            case "--svg":
                guard let folder = remaining.popFirst() else { throw Usage() }
                pictures = folder
            case "--delay", "--bandwidth":
                guard let number = remaining.popFirst().flatMap(Int.init), number >= 0 else { throw Usage() }
                var wire = asked ?? Wire(delay: 0, megabits: 0)
                if word == "--delay" { wire.delay = number } else { wire.megabits = number }
                asked = wire
            default: throw Usage()
            }
        }
        if let asked { wires = [asked] }
    }
}

/// Makes a folder when there is none.
private func makeFolder(_ path: String) throws {
    // SAFETY: a NUL-terminated copy for the time of the call.
    guard unsafe mkdir(path, 0o777) == 0 || errno == EEXIST else {
        throw TestFailure("mkdir \(path): errno \(errno)")
    }
}
