// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem

/// How many threads are at work at something, for the one that has to wait until none is.
public final class ActivityCount: Sendable {
    private let count = Lock(0)
    private let lastEnded: EventDescriptor

    /// Nobody is at work.
    ///
    /// - Throws: SystemCallError when this program may not open more descriptors.
    public init() throws(SystemCallError) {
        lastEnded = try EventDescriptor()
    }

    /// Whether nobody is at work.
    public var isZero: Bool { count.withLock { $0 == 0 } }

    /// Somebody begins.
    public func begin() {
        count.withLock { $0 += 1 }
    }

    /// Somebody has ended.
    public func end() {
        let left = count.withLock { count in
            count -= 1
            return count
        }
        if left == 0 { lastEnded.signal() }
    }

    /// Waits until nobody is at work, for one thread; returns whether that is so.
    public func waitUntilZero(until deadline: Deadline) -> Bool {
        while !isZero {
            guard (try? lastEnded.wait(until: deadline)) == true else { return false }
            lastEnded.drain()
        }
        return true
    }
}
