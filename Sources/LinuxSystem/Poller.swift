// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// Waits for any of several descriptors (level-triggered).
///
/// One thread uses it.
@safe
public final class Poller {
    /// What to wait for, or what is the case.
    public struct Readiness: OptionSet, Hashable, Sendable {
        /// The bits of epoll(7).
        public let rawValue: UInt32

        /// Wraps the bits of epoll(7).
        public init(rawValue: UInt32) {
            self.rawValue = rawValue
        }

        /// There is something to read, or the end.
        ///
        /// The corresponding C constant is `EPOLLIN`.
        public static let readable = Self(rawValue: EPOLLIN.rawValue)
        /// There is room to write.
        ///
        /// The corresponding C constant is `EPOLLOUT`.
        public static let writable = Self(rawValue: EPOLLOUT.rawValue)
        /// An error is pending; always waited for.
        ///
        /// The corresponding C constant is `EPOLLERR`.
        public static let failed = Self(rawValue: EPOLLERR.rawValue)
        /// Both directions are closed; always waited for.
        ///
        /// The corresponding C constant is `EPOLLHUP`.
        public static let hungUp = Self(rawValue: EPOLLHUP.rawValue)
    }

    /// One descriptor that is ready.
    public struct Event: Hashable, Sendable {
        /// What ``add(_:token:for:)`` was given.
        public let token: UInt64
        /// What is the case.
        public let readiness: Readiness
    }

    private let epoll: OwnedDescriptor
    private let capacity: Int
    private let events: UnsafeMutablePointer<epoll_event>

    /// Opens an empty set.
    ///
    /// - Parameter capacity: most events that one wait reports; others come with the next.
    ///
    /// The corresponding call is `epoll_create1`.
    public init(capacity: Int = 16) throws(SystemCallError) {
        precondition(capacity > 0, "Poller: a wait must be able to report something")
        epoll = OwnedDescriptor(adopting: try checked("epoll_create1", clinux_epoll_create()))
        self.capacity = capacity
        // SAFETY: memory of its own, initialised here, freed in deinit.
        unsafe events = .allocate(capacity: capacity)
        unsafe events.initialize(repeating: epoll_event(), count: capacity)
    }

    deinit {
        // SAFETY: allocated in init; trivial values need no deinitialisation.
        unsafe events.deallocate()
    }

    /// Starts to wait for a descriptor, which the caller keeps open until ``remove(_:)`` or the end of the set.
    public func add(_ descriptor: Int32, token: UInt64, for interest: Readiness = .readable) throws(SystemCallError) {
        try control(EPOLL_CTL_ADD, descriptor, interest, token)
    }

    /// Waits for something else from now on; an empty set pauses the descriptor (errors and hang-ups are still reported).
    public func change(_ descriptor: Int32, token: UInt64, for interest: Readiness) throws(SystemCallError) {
        try control(EPOLL_CTL_MOD, descriptor, interest, token)
    }

    /// Stops to wait for a descriptor.
    public func remove(_ descriptor: Int32) throws(SystemCallError) {
        try control(EPOLL_CTL_DEL, descriptor, [], 0)
    }

    /// Waits until something is ready.
    ///
    /// Allocates nothing.
    ///
    /// - Returns: how many events can be looked at by subscript; 0 at the deadline. A signal that interrupts starts the wait again.
    ///
    /// The corresponding call is `epoll_wait`.
    public func wait(until deadline: Deadline = .never) throws(SystemCallError) -> Int {
        while true {
            // SAFETY: the kernel writes at most `capacity` entries of the memory allocated in init.
            let count = unsafe clinux_epoll_wait(
                epoll.rawValue,
                events,
                Int32(clamping: capacity),
                deadline.milliseconds
            )
            if count > 0 { return Int(count) }
            if count < 0 && count != -EINTR { try checked("epoll_wait", count) }
            if deadline.hasPassed { return 0 }
        }
    }

    /// An event of the last wait; `index` is below what it returned.
    public subscript(index: Int) -> Event {
        precondition(index >= 0 && index < capacity, "Poller: no such event")
        // SAFETY: initialised memory below `capacity`; all members of the union are plain bits and the kernel keeps the 64 bits given.
        let event = unsafe events[index]
        return Event(token: unsafe event.data.u64, readiness: Readiness(rawValue: unsafe event.events))
    }

    private func control(
        _ operation: Int32,
        _ descriptor: Int32,
        _ interest: Readiness,
        _ token: UInt64
    ) throws(SystemCallError) {
        let result = clinux_epoll_control(epoll.rawValue, operation, descriptor, interest.rawValue, token)
        try checked("epoll_ctl", result, operand: "descriptor \(descriptor)")
    }
}
