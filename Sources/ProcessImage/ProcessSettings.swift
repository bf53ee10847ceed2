// SPDX-License-Identifier: Apache-2.0
//
// Fields are named as in proc(5) and in the calls that set them; those that need more words have them.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// Signal state of the whole process.
public struct SignalDescription: ArchivedValue, Equatable {
    /// `struct kernel_sigaction` (handler, flags, restorer, mask: 32 bytes on x86-64) of signals 1 to 64, in order.
    public var actions: [SignalAction] = []
    /// The shared queue, in order.
    public var pending: [SignalInformation] = []
    /// Whether the process was stopped by a signal (state T) when it was frozen, and so is stopped again.
    public var stopped = false

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&actions)
        try archive.field(&pending)
        try archive.field(&stopped)
    }
}

/// `struct kernel_sigaction` of rt_sigaction(2).
public struct SignalAction: ArchivedValue, Equatable {
    public var handler: UInt64 = 0
    public var flags: UInt64 = 0
    public var restorer: UInt64 = 0
    public var mask: UInt64 = 0

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&handler)
        try archive.field(&flags)
        try archive.field(&restorer)
        try archive.field(&mask)
    }
}

/// setitimer(2) and timer_create(2).
public struct TimerDescription: ArchivedValue, Equatable {
    /// ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF.
    public var interval: [IntervalTimer] = []
    public var posix: [POSIXTimer] = []

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&interval)
        try archive.field(&posix)
    }
}

/// Time to the next expiration and between expirations, in nanoseconds; 0 is off.
public struct IntervalTimer: ArchivedValue, Equatable {
    public var value: Int64 = 0
    public var period: Int64 = 0

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&value)
        try archive.field(&period)
    }
}

/// A POSIX timer as `/proc/PID/timers` and timer_gettime(2) show it.
public struct POSIXTimer: ArchivedValue, Equatable {
    public var id: Int32 = 0
    public var clock: Int32 = 0
    /// SIGEV_SIGNAL 0, SIGEV_NONE 1, SIGEV_THREAD_ID 4 (glibc's SIGEV_THREAD is SIGEV_THREAD_ID to the kernel).
    public var notify: Int32 = 0
    public var signal: Int32 = 0
    /// The thread of SIGEV_THREAD_ID.
    public var tid: Int32 = 0
    /// sigev_value.
    public var value: UInt64 = 0
    public var overrun: Int32 = 0
    public var timer = IntervalTimer()

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&id)
        try archive.field(&clock)
        try archive.field(&notify)
        try archive.field(&signal)
        try archive.field(&tid)
        try archive.field(&value)
        try archive.field(&overrun)
        try archive.field(&timer)
    }
}

/// The rest of what a process has once.
public struct ProcessSettings: ArchivedValue, Equatable {
    /// Soft and hard limit of RLIMIT_CPU (0) to RLIMIT_RTTIME (15), soft first, 32 numbers.
    public var limits: [UInt64] = []
    public var umask: UInt32 = 0
    public var personality: UInt32 = 0
    public var oomScoreAdjustment: Int32 = 0
    /// PR_GET_DUMPABLE.
    public var dumpable: UInt32 = 1
    /// PR_GET_PDEATHSIG.
    public var parentDeathSignal: Int32 = 0
    /// PR_GET_CHILD_SUBREAPER.
    public var childSubreaper = false
    /// PR_GET_KEEPCAPS and the like are in securebits.
    public var hasControllingTerminal = false
    /// /proc/PID/coredump_filter.
    public var coreDumpFilter: UInt32 = 0x33

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&limits)
        try archive.field(&umask)
        try archive.field(&personality)
        try archive.field(&oomScoreAdjustment)
        try archive.field(&dumpable)
        try archive.field(&parentDeathSignal)
        try archive.field(&childSubreaper)
        try archive.field(&hasControllingTerminal)
        try archive.field(&coreDumpFilter)
    }
}
