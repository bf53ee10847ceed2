// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A moment of CLOCK_MONOTONIC, which no one sets and which stands still while the machine sleeps.
public struct MonotonicTime: Comparable, Hashable, Sendable {
    /// Nanoseconds since an arbitrary point, about the boot of the machine.
    public let nanoseconds: UInt64

    /// Wraps nanoseconds of CLOCK_MONOTONIC.
    public init(nanoseconds: UInt64) {
        self.nanoseconds = nanoseconds
    }

    /// The present moment.
    ///
    /// The corresponding call is `clock_gettime(CLOCK_MONOTONIC)`.
    public static var now: MonotonicTime {
        var time = timespec()
        // SAFETY: the kernel writes one timespec that lives until the call returns.
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return MonotonicTime(nanoseconds: UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec))
    }

    /// Time that has passed since.
    public var elapsed: Duration {
        MonotonicTime.now - self
    }

    /// Whether one moment is before another.
    public static func < (left: MonotonicTime, right: MonotonicTime) -> Bool {
        left.nanoseconds < right.nanoseconds
    }

    /// Time from `right` to `left`, negative when `left` is earlier.
    public static func - (left: MonotonicTime, right: MonotonicTime) -> Duration {
        .nanoseconds(Int64(bitPattern: left.nanoseconds &- right.nanoseconds))
    }
}

/// CLOCK_REALTIME, for lines that people and other programs read.
public struct WallTime: Hashable, Sendable {
    /// Seconds since 1970.
    public let seconds: Int64
    /// Nanoseconds within the second.
    public let nanoseconds: UInt32

    /// The present moment.
    ///
    /// The corresponding call is `clock_gettime(CLOCK_REALTIME)`.
    public static var now: WallTime {
        var time = timespec()
        // SAFETY: the kernel writes one timespec that lives until the call returns.
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return WallTime(seconds: Int64(time.tv_sec), nanoseconds: UInt32(time.tv_nsec))
    }
}

/// The moment at which a wait gives up.
public struct Deadline: Hashable, Sendable {
    /// Nanoseconds of CLOCK_MONOTONIC; `UInt64.max` stands for never.
    private let nanoseconds: UInt64

    private init(nanoseconds: UInt64) {
        self.nanoseconds = nanoseconds
    }

    /// A wait that does not give up.
    public static let never = Deadline(nanoseconds: .max)

    /// A wait that only looks.
    public static let immediate = Deadline(nanoseconds: 0)

    /// Gives up after a time from now; a negative time has passed already.
    public static func after(_ time: Duration) -> Deadline {
        guard time > .zero else { return .immediate }
        let (seconds, attoseconds) = time.components
        let (whole, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        guard !overflow else { return .never }
        let (length, tooLong) = whole.addingReportingOverflow(UInt64(attoseconds) / 1_000_000_000)
        guard !tooLong else { return .never }
        let (moment, never) = MonotonicTime.now.nanoseconds.addingReportingOverflow(length)
        return never ? .never : Deadline(nanoseconds: moment)
    }

    /// Whether the wait is over.
    public var hasPassed: Bool {
        nanoseconds != .max && MonotonicTime.now.nanoseconds >= nanoseconds
    }

    /// Time left, never negative; `nil` for a wait without end.
    public var timeLeft: Duration? {
        guard nanoseconds != .max else { return nil }
        let now = MonotonicTime.now.nanoseconds
        return .nanoseconds(Int64(clamping: nanoseconds > now ? nanoseconds - now : 0))
    }

    /// Time left as poll(2) and epoll_wait(2) want it: milliseconds rounded up, -1 for ever.
    public var milliseconds: Int32 {
        guard nanoseconds != .max else { return -1 }
        let now = MonotonicTime.now.nanoseconds
        guard nanoseconds > now else { return 0 }
        return Int32(clamping: (nanoseconds - now + 999_999) / 1_000_000)
    }

    /// The earlier one of two.
    public func earlier(_ other: Deadline) -> Deadline {
        nanoseconds <= other.nanoseconds ? self : other
    }
}
