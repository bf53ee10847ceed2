// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import TestSupport

/// Measures moves on this machine next to the floor, and prints a table and one JSON object.
@main
struct Benchmarks {
    static func main() {
        do {
            let plan = try Plan(arguments: Array(CommandLine.arguments.dropFirst()))
            guard Machine.isRoot else { throw TestFailure("moving a process needs root") }
            for program in ["thaw", "Floor", "BenchmarkVictim"] where !fileExists(BuiltProduct.path(program)) {
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
            usage: Benchmarks [--quick] [--only pause|latency|bulk] [--json FILE]
              --quick   64 MiB and 1 GiB with 1 and 16 threads only, once each
            """
    }

    enum Part: String, CaseIterable {
        case pause
        case latency
        case bulk
    }

    var mebibytes = [64, 1024, 4096]
    var threads = [1, 16, 64]
    var parts = Part.allCases
    /// Runs per row of the pause table; the row shows the one with the median pause.
    var repetitions = 3
    var jsonFile: String?

    init(arguments: [String]) throws {
        var remaining = arguments[...]
        while let word = remaining.popFirst() {
            switch word {
            case "--quick": (mebibytes, threads, repetitions) = ([64, 1024], [1, 16], 1)
            case "--only":
                guard let part = remaining.popFirst().flatMap(Part.init(rawValue:)) else { throw Usage() }
                parts = [part]
            case "--json":
                guard let file = remaining.popFirst() else { throw Usage() }
                jsonFile = file
            default: throw Usage()
            }
        }
    }
}
