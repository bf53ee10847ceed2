// SPDX-License-Identifier: Apache-2.0
internal import CTestSupport
internal import Glibc
internal import Synchronization

/// How long a test waits for something that should come soon; long, because a busy machine is no defect.
public let patience: Duration = .seconds(60 * slowness)

/// How many times longer than usual everything may take: `THAW_SLOWNESS`, which sanitizers need.
public let slowness: Int = {
    // SAFETY: the text is the environment's, which nobody changes.
    guard let text = unsafe getenv("THAW_SLOWNESS") else { return 1 }
    return unsafe Int(String(cString: text)).map { max(1, $0) } ?? 1
}()

/// Waits until `condition` holds; the text says what did not come.
public func wait(
    for what: @autoclosure () -> String,
    within limit: Duration = patience,
    until condition: () throws -> Bool
) throws {
    let end = ContinuousClock.now + limit
    while try !condition() {
        guard ContinuousClock.now < end else { throw TestFailure("waited \(limit) for \(what())") }
        usleep(3000)
    }
}

/// Numbers that differ from each other.
final class Counter: Sendable {
    private let value = Atomic<Int>(0)

    func next() -> Int {
        value.wrappingAdd(1, ordering: .relaxed).newValue
    }
}
