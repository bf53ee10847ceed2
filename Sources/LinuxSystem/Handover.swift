// SPDX-License-Identifier: Apache-2.0

/// Values that one thread gives to another, in order, each with all that hangs on it.
public final class Handover<Value>: @unchecked Sendable {
    // SAFETY of @unchecked Sendable: `waiting` is only touched under the lock, and a value belongs to the queue while it is in it.
    private let order = Lock(UInt8(0))
    private var waiting: [Value] = []
    private let event: EventDescriptor

    /// Readable while something waits to be taken.
    public var descriptor: Int32 { event.descriptor }

    /// An empty queue.
    public init() throws(SystemCallError) {
        event = try EventDescriptor()
    }

    /// Whether nothing waits to be taken.
    public var isEmpty: Bool {
        order.withLock { _ in waiting.isEmpty }
    }

    /// Gives a value away.
    public func put(_ value: sending Value) {
        order.withLock { _ in
            waiting.append(value)
            event.signal()
        }
    }

    /// Takes the oldest value; nil when there is none.
    public func take() -> sending Value? {
        // SAFETY: the value leaves the queue, whoever put it in has given it away, so nobody else refers to it.
        nonisolated(unsafe) var taken: Value?
        order.withLock { _ in
            guard !waiting.isEmpty else { return }
            unsafe taken = waiting.removeFirst()
            if waiting.isEmpty { event.drain() }
        }
        return unsafe taken
    }
}
