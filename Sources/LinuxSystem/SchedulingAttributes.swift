// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// How the kernel shares the CPUs among threads, for one of them: `struct sched_attr`.
public struct SchedulingAttributes: Equatable, Sendable {
    /// A policy of sched(7).
    public struct Policy: RawRepresentable, Hashable, Sendable {
        /// The number of the kernel.
        public let rawValue: UInt32

        /// Wraps the number of the kernel.
        public init(rawValue: UInt32) {
            self.rawValue = rawValue
        }

        /// The usual one.
        ///
        /// The corresponding C constant is `SCHED_OTHER`.
        public static let other = Self(rawValue: 0)
        /// As ``other``, but a thread that becomes runnable never takes the CPU from one that runs.
        ///
        /// The corresponding C constant is `SCHED_BATCH`.
        public static let batch = Self(rawValue: 3)
        /// What nobody else wants of a CPU.
        ///
        /// The corresponding C constant is `SCHED_IDLE`.
        public static let idle = Self(rawValue: 5)
    }

    /// Of the kernel's structure, which has grown from 48 bytes.
    private static let capacity = 128

    /// What the kernel fills, its own size in the first word: in place, since turns are lent on the way of a fault.
    private var bytes = InlineArray<128, UInt8>(repeating: 0)

    /// Of a thread, by default the calling one.
    ///
    /// Allocates nothing.
    ///
    /// The corresponding call is `sched_getattr`.
    public init(thread: Int32 = 0) throws(SystemCallError) {
        // SAFETY: the kernel fills at most this value's own storage during the closure.
        let result = unsafe withUnsafeMutableBytes(of: &bytes) { raw -> Int32 in
            guard let start = raw.baseAddress else { return -EFAULT }
            return unsafe clinux_sched_getattr(thread, start, UInt32(Self.capacity))
        }
        try checked("sched_getattr", result, operand: "thread \(thread)")
    }

    /// Whether all of them are equal.
    public static func == (left: Self, right: Self) -> Bool {
        left.bytes.indices.allSatisfy { left.bytes[$0] == right.bytes[$0] }
    }

    /// The policy.
    public var policy: Policy {
        get { Policy(rawValue: UInt32(truncatingIfNeeded: word(at: 4, byteCount: 4))) }
        set { setWord(UInt64(newValue.rawValue), at: 4, byteCount: 4) }
    }

    /// -20, which gets most of a CPU, to 19.
    public var nice: Int32 {
        get { Int32(truncatingIfNeeded: word(at: 16, byteCount: 4)) }
        set { setWord(UInt64(truncatingIfNeeded: newValue), at: 16, byteCount: 4) }
    }

    /// Nanoseconds that the thread runs before another one has its turn; the kernel keeps 0.1 to 100 ms, and its own choice for 0.
    ///
    /// A thread that becomes runnable takes the CPU from one with a longer slice at once, as long as it has not used up its share
    /// (check_preempt_wakeup_fair in kernel/sched/fair.c). Before Linux 6.12 it is neither shown nor heeded.
    public var slice: UInt64 {
        get { word(at: 24, byteCount: 8) }
        set { setWord(newValue, at: 24, byteCount: 8) }
    }

    /// Makes them those of a thread, by default the calling one.
    ///
    /// - Throws: ``SystemCallError`` with `EPERM` when the user may not raise the thread (CAP_SYS_NICE).
    ///
    /// The corresponding call is `sched_setattr`.
    public func apply(to thread: Int32 = 0) throws(SystemCallError) {
        if policy == .idle {
            // With this policy the kernel leaves the nice value and the slice as they are (__setscheduler_params in
            // kernel/sched/syscalls.c), and shows them all the same.
            var before = self
            before.policy = .batch
            try before.set(of: thread)
        }
        try set(of: thread)
    }

    private func set(of thread: Int32) throws(SystemCallError) {
        // SAFETY: the value's own storage; nothing keeps the pointer.
        let result = unsafe withUnsafeBytes(of: bytes) { raw -> Int32 in
            guard let start = raw.baseAddress else { return -EFAULT }
            // SAFETY: the first word is the size of what follows, as the kernel gave it.
            return unsafe clinux_sched_setattr(thread, start)
        }
        try checked("sched_setattr", result, operand: "thread \(thread)")
    }

    private func word(at offset: Int, byteCount: Int) -> UInt64 {
        (0..<byteCount).reduce(0) { $0 | UInt64(bytes[offset + $1]) << (8 * $1) }
    }

    private mutating func setWord(_ word: UInt64, at offset: Int, byteCount: Int) {
        for index in 0..<byteCount { bytes[offset + index] = UInt8(truncatingIfNeeded: word >> (8 * index)) }
    }
}
