// SPDX-License-Identifier: Apache-2.0

/// How soon a thread has to run once it has something to do.
///
/// It is a matter of turns more than of shares: no thread goes without a CPU, however busy the machine is. (SCHED_IDLE and nice values
/// of 10 and more are not used, since threads that have them have been seen without a turn for half a minute.)
public enum ThreadUrgency: Hashable, Sendable {
    /// A thread of somebody waits for each thing that it does: it takes the CPU from others at once, for a short while.
    case urgent
    /// As every other thread of the program.
    case usual
    /// Nobody waits yet: it takes the CPU from nobody, and whoever becomes runnable takes it from this one.
    case background

    /// The shortest that the kernel keeps, in nanoseconds.
    private static let shortSlice: UInt64 = 100_000
    /// Longer than that of any other thread, which the kernel chooses between 0.7 and 2.8 ms by the number of CPUs.
    ///
    /// Not longer than that, because a thread that yields gives up the rest of its slice (yield_task_fair in kernel/sched/fair.c), and the
    /// stream does so while faults come.
    private static let longSlice: UInt64 = 3_000_000
    /// So much more of a CPU goes to an urgent thread than to others (three times as much), where the user may have that.
    private static let urgentNice: Int32 = -5

    /// Makes the calling thread so urgent.
    ///
    /// Threads that it starts inherit that. Leaves a thread alone whose policy somebody has chosen, and does nothing where the kernel
    /// does not allow it: then the thread works as well, only later.
    ///
    /// The corresponding call is `sched_setattr`.
    public func applyToCurrentThread() {
        guard self != .usual, let attributes = try? SchedulingAttributes(), attributes.policy == .other else { return }
        apply(to: 0, insteadOf: attributes)
    }

    /// Makes a thread so urgent, 0 for the calling one.
    func apply(to thread: Int32, insteadOf attributes: SchedulingAttributes) {
        var attributes = attributes
        switch self {
        case .usual: return
        case .background:
            attributes.policy = .batch
            attributes.slice = Self.longSlice
        case .urgent:
            attributes.policy = .other
            attributes.slice = Self.shortSlice
            var raised = attributes
            raised.nice = max(-20, attributes.nice + Self.urgentNice)
            if (try? raised.apply(to: thread)) != nil { return }
        }
        try? attributes.apply(to: thread)
    }
}
