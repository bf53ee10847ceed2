// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem

/// A thread of another process that runs before others until it is put back.
///
/// A thread is only stopped when it runs. One of SCHED_IDLE, or with a nice value of 19, on a machine whose CPUs are all busy has been
/// seen to wait 20 seconds for that, and the rest of its process stands still meanwhile.
struct RaisedThread {
    private static let highestNice: Int32 = -20
    /// The shortest that the kernel keeps: who has it takes the CPU from whoever runs.
    private static let shortSlice: UInt64 = 100_000

    private let tid: Int32
    private let original: SchedulingAttributes

    /// Raises a thread that gets less of a CPU than others.
    ///
    /// - Parameters:
    ///   - tid: the thread.
    ///   - usual: what a thread has with which nobody has done anything; its slice is the kernel's own choice.
    /// - Returns: nil when the thread gets as much as others, or when it cannot be raised: then it is waited for as it is.
    static func raise(_ tid: Int32, usual: SchedulingAttributes) -> RaisedThread? {
        guard var original = try? SchedulingAttributes(thread: tid) else { return nil }
        let policies: [SchedulingAttributes.Policy] = [.other, .batch, .idle]
        guard policies.contains(original.policy), original.policy != .other || original.nice > 0 else { return nil }
        var raised = original
        raised.policy = .other
        raised.nice = highestNice
        raised.slice = shortSlice
        guard (try? raised.apply(to: tid)) != nil else { return nil }
        // The kernel tells its own choice as if somebody had made it; it stays the kernel's.
        if original.slice == usual.slice { original.slice = 0 }
        return RaisedThread(tid: tid, original: original)
    }

    /// Gives the thread back exactly what it had.
    ///
    /// One that has ended meanwhile needs nothing.
    func putBack() {
        try? original.apply(to: tid)
    }
}
