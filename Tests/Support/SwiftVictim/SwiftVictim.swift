// SPDX-License-Identifier: Apache-2.0
import Dispatch

/// A Swift program to be moved: async tasks that compute and sleep, Dispatch threads, a Dispatch timer.
///
/// Its last line depends on every step of the work and on nothing else.
@main
struct SwiftVictim {
    static func main() async {
        let rounds = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 100
        async let tasks = sumOfTasks(rounds: rounds)
        async let threads = sumOfThreads(rounds: rounds)
        async let ticks = countOfTicks(rounds / 4)
        let (first, second, third) = await (tasks, threads, ticks)
        print("tasks \(first) threads \(second) ticks \(third)")
    }

    /// Steps of xorshift64*, so that no step can be left out.
    static func compute(_ seed: UInt64, steps: Int) -> UInt64 {
        var value = seed | 1
        for _ in 0..<steps {
            value ^= value >> 12
            value ^= value << 25
            value ^= value >> 27
            value = value &* 0x2545_F491_4F6C_DD1D
        }
        return value
    }

    private static func sumOfTasks(rounds: Int) async -> UInt64 {
        await withTaskGroup(of: UInt64.self) { group in
            for number in 0..<8 {
                group.addTask {
                    var history: [UInt64] = []
                    for round in 0..<rounds {
                        history.append(compute(UInt64(number * 1_000_003 + round), steps: 20_000))
                        do {
                            try await Task.sleep(for: .milliseconds(2))
                        } catch {
                            return 0
                        }
                    }
                    return history.reduce(0) { $0 &* 31 &+ $1 }
                }
            }
            return await group.reduce(0) { $0 ^ $1 }
        }
    }

    private static func sumOfThreads(rounds: Int) async -> UInt64 {
        await withCheckedContinuation { continuation in
            DispatchQueue.global().async {
                let parts = (0..<rounds).map { round in
                    let partial = Partial()
                    DispatchQueue.concurrentPerform(iterations: 4) { index in
                        partial.add(compute(UInt64(round * 4 + index), steps: 10_000))
                    }
                    return partial.value
                }
                continuation.resume(returning: parts.reduce(0) { $0 &* 33 &+ $1 })
            }
        }
    }

    private static func countOfTicks(_ count: Int) async -> Int {
        await withCheckedContinuation { continuation in
            let ticker = Ticker(count: count) { continuation.resume(returning: $0) }
            ticker.start()
        }
    }
}

/// A sum that threads add to; addition does not depend on their order.
private final class Partial: @unchecked Sendable {
    // SAFETY of @unchecked Sendable: touched on the queue only.
    private let queue = DispatchQueue(label: "sum")
    private var sum: UInt64 = 0

    func add(_ number: UInt64) {
        queue.sync { sum &+= number }
    }

    var value: UInt64 { queue.sync { sum } }
}

/// Counts the ticks of a Dispatch timer.
private final class Ticker: @unchecked Sendable {
    // SAFETY of @unchecked Sendable: touched on the timer's queue only, once it has started.
    private let timer = DispatchSource.makeTimerSource(queue: DispatchQueue(label: "ticks"))
    private let count: Int
    private let done: @Sendable (Int) -> Void
    private var seen = 0

    init(count: Int, done: @escaping @Sendable (Int) -> Void) {
        self.count = count
        self.done = done
    }

    func start() {
        timer.setEventHandler { self.tick() }
        timer.schedule(deadline: .now(), repeating: .milliseconds(10))
        timer.resume()
    }

    private func tick() {
        seen += 1
        guard seen == count else { return }
        timer.cancel()
        done(count)
    }
}
