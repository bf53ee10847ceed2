// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import TestSupport

/// Moves a process again and again while one side or the other fails somewhere, and prints what became of it.
@main
struct Faults {
    private static let usage = "usage: Faults [--list] [--jobs COUNT] [--only TEXT] [--double SEED COUNT]"

    static func main() {
        do {
            let (plans, jobs) = try chosen(Array(CommandLine.arguments.dropFirst()))
            guard Machine.isRoot else { throw TestFailure("moving a process needs root") }
            // Not by many threads at once.
            _ = try Certificates.directory()
            guard Trial.run(Plan(faults: [], clones: true)).wasDouble else {
                throw TestFailure(
                    "a clone beside its source was not taken for two copies: what this would say is worth nothing"
                )
            }
            let book = try run(plans, jobs)
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
    private static func run(_ plans: [Plan], _ jobs: Int) throws -> Book {
        let began = MonotonicTime.now
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
        try runBeside(jobs, work)
        return state.withLock { state in
            state.book.duration = began.elapsed
            return state.book
        }
    }

    /// Does a work on so many threads, and waits for all of them; threads cannot be kept in an array.
    private static func runBeside(_ count: Int, _ work: @escaping @Sendable () -> Void) throws {
        guard count > 0 else { return }
        let thread = try NamedThread("trials-\(count)", work)
        let others = Result { try runBeside(count - 1, work) }
        thread.join()
        try others.get()
    }

    private static func chosen(_ arguments: [String]) throws -> (plans: [Plan], jobs: Int) {
        var rest = arguments[...]
        // Of the time of a move three quarters are waits.
        var jobs = 3 * max(1, (try? CPUAffinity().cpus.count) ?? 1)
        var plans = Plan.singles
        var lists = false
        while let word = rest.popFirst() {
            switch word {
            case "--list": lists = true
            case "--jobs":
                guard let count = rest.popFirst().flatMap({ Int($0) }), (1...64).contains(count) else {
                    throw TestFailure(usage)
                }
                jobs = count
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
        guard lists else { return (plans, jobs) }
        for plan in plans { say("\(plan)") }
        exit(0)
    }
}

/// Prints a line at once, so that a long run can be watched through a pipe.
func say(_ text: String) {
    StandardStream.output.write(text + "\n")
}
