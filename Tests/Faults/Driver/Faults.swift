// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import TestSupport

/// Moves a process again and again while one side or the other fails somewhere, and prints what became of it.
@main
struct Faults {
    private static let usage = "usage: Faults [--list] [--only TEXT] [--double SEED COUNT]"

    static func main() {
        do {
            let plans = try chosenPlans(Array(CommandLine.arguments.dropFirst()))
            guard Machine.isRoot else { throw TestFailure("moving a process needs root") }
            // Not by many threads at once.
            _ = try Certificates.directory()
            guard Trial.run(Plan(faults: [], clones: true)).wasDouble else {
                throw TestFailure(
                    "a clone beside its source was not taken for two copies: what this would say is worth nothing"
                )
            }
            let book = try run(plans)
            book.print()
            exit(book.isClean ? 0 : 1)
        } catch let failure as TestFailure {
            StandardStream.error.write("\(failure)\n")
            exit(64)
        } catch {
            StandardStream.error.write("faults: \(error)\n")
            exit(1)
        }
    }

    /// Runs a few at a time: most of the time a move waits for something.
    private static func run(_ plans: [Plan]) throws -> Book {
        let state = Lock((next: 0, book: Book()))
        @Sendable func work() {
            while true {
                let number = state.withLock { state in
                    state.next += 1
                    return state.next
                }
                guard number <= plans.count else { return }
                let plan = plans[number - 1]
                let result = Trial.run(plan)
                state.withLock { $0.book.enter(plan, result) }
                say("\(number)/\(plans.count) \(plan): \(result)")
            }
        }
        let first = try NamedThread("trials-1", work)
        let second = try NamedThread("trials-2", work)
        first.join()
        second.join()
        return state.withLock { $0.book }
    }

    private static func chosenPlans(_ arguments: [String]) throws -> [Plan] {
        var rest = arguments[...]
        var plans = Plan.singles
        var lists = false
        while let word = rest.popFirst() {
            switch word {
            case "--list": lists = true
            case "--only":
                guard let text = rest.popFirst() else { throw TestFailure(usage) }
                plans = plans.filter { "\($0)".contains(text) }
            case "--double":
                guard let seed = rest.popFirst().flatMap({ UInt64($0) }),
                    let count = rest.popFirst().flatMap({ Int($0) })
                else { throw TestFailure(usage) }
                plans = Plan.doubles(seed: seed, count: count)
            default: throw TestFailure(usage)
            }
        }
        guard lists else { return plans }
        for plan in plans { say("\(plan)") }
        exit(0)
    }
}

/// Prints a line at once, so that a long run can be watched through a pipe.
func say(_ text: String) {
    StandardStream.output.write(text + "\n")
}
