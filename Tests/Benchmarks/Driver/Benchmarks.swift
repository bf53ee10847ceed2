// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import TestSupport

/// Measures moves on this machine next to the floor, and prints tables and one JSON object.
@main
struct Benchmarks {
    private static let programs = ["thaw", "Floor", "TrackingFloor", "BenchmarkVictim"]

    static func main() {
        do {
            let plan = try Plan(arguments: Array(CommandLine.arguments.dropFirst()))
            guard Machine.isRoot else { throw TestFailure("moving a process needs root") }
            for program in programs where !fileExists(BuiltProduct.path(program)) {
                throw TestFailure("\(BuiltProduct.path(program)) is missing; use Tests/Benchmarks/run")
            }
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
            usage: Benchmarks [--quick] [--only PART,...] [--json FILE]
              PART      pause, latency, bulk, threads, orders; moves, sizes, writers, tracking, or precopy for these four
              --quick   less memory, fewer cases, once each: whether it works, no figures to quote
            """
    }

    enum Part: String, CaseIterable {
        case pause
        case latency
        case bulk
        case threads
        case orders
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

    /// Runs for one row; the row shows the one in the middle.
    var repetitions: Int { isQuick ? 1 : 3 }

    init(arguments: [String]) throws {
        var remaining = arguments[...]
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
            default: throw Usage()
            }
        }
    }
}
