// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// A counter with a descriptor, by which one thread wakes another that waits in a ``Poller``.
///
/// Any number of threads may use it.
public final class EventDescriptor: Sendable {
    private let owned: OwnedDescriptor

    /// Readable while the count is not 0.
    public var descriptor: Int32 { owned.rawValue }

    /// Makes a counter of 0.
    ///
    /// The corresponding call is `eventfd`.
    public init() throws(SystemCallError) {
        owned = OwnedDescriptor(adopting: try checked("eventfd", clinux_eventfd(0)))
    }

    /// Adds 1, which wakes those that wait.
    public func signal() {
        var one: UInt64 = 1
        // SAFETY: 8 bytes that live during the call. EAGAIN (the count is at its maximum) loses nothing: the descriptor is readable.
        while unsafe write(owned.rawValue, &one, 8) < 0 && errno == EINTR {}
    }

    /// Sets the count to 0 without waiting.
    ///
    /// - Returns: the count it had.
    @discardableResult
    public func drain() -> UInt64 {
        var count: UInt64 = 0
        // SAFETY: 8 bytes that live during the call. EAGAIN means that the count is 0.
        while unsafe read(owned.rawValue, &count, 8) < 0 && errno == EINTR {}
        return count
    }

    /// Waits for a count that is not 0, which stays as it is.
    ///
    /// - Returns: whether there was one before the deadline.
    public func wait(until deadline: Deadline) throws(SystemCallError) -> Bool {
        try DescriptorIO.wait(for: .readable, on: descriptor, until: deadline)
    }
}
