// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem

/// What the kernel tells of a thread or process to others by calls of its own, without stopping it.
public enum ThreadAttributes {
    /// Address of the head of the robust futex list, and the length that was given with it.
    ///
    /// The corresponding call is `get_robust_list`.
    public static func robustList(of tid: Int32) throws(TraceError) -> (head: UInt64, length: UInt64) {
        var head: UInt64 = 0
        var length: UInt64 = 0
        // SAFETY: two numbers that live during the call.
        let result = unsafe clinux_get_robust_list(tid, &head, &length)
        try TraceError.check("get_robust_list", result, "Cannot read the robust list of thread \(tid)")
        return (head, length)
    }

    /// `struct sched_attr`, raw; its first word is its size.
    ///
    /// The kernel leaves the nice value out for a real-time policy, which the thread keeps for the day it becomes an ordinary one
    /// again; here it is always there.
    ///
    /// The corresponding call is `sched_getattr`.
    public static func scheduling(of tid: Int32) throws(TraceError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 128)
        // SAFETY: the kernel fills at most the array's own storage during the closure.
        let result = unsafe bytes.withUnsafeMutableBytes { buffer -> Int32 in
            guard let start = buffer.baseAddress else { return -EFAULT }
            return unsafe clinux_sched_getattr(tid, start, UInt32(buffer.count))
        }
        let count = try TraceError.check("sched_getattr", result, "Cannot read the scheduling of thread \(tid)")
        // Words: size, policy, flags (two), nice. SCHED_FIFO, SCHED_RR, SCHED_DEADLINE.
        if [1, 2, 6].contains(bytes[4]) {
            let nice = try ProcessStat.read(tid).nice
            for index in 0..<4 { bytes[16 + index] = UInt8(truncatingIfNeeded: nice >> (8 * Int32(index))) }
        }
        return Array(bytes[..<min(Int(count), bytes.count)])
    }

    /// The CPUs on which the thread may run, bit 0 of byte 0 is CPU 0.
    ///
    /// The corresponding call is `sched_getaffinity`.
    public static func affinity(of tid: Int32) throws(TraceError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 1024)
        // SAFETY: the kernel fills at most the array's own storage during the closure.
        let result = unsafe bytes.withUnsafeMutableBytes { buffer -> Int32 in
            guard let start = buffer.baseAddress else { return -EFAULT }
            return unsafe clinux_get_affinity(tid, start, buffer.count)
        }
        let count = try TraceError.check("sched_getaffinity", result, "Cannot read the affinity of thread \(tid)")
        return Array(bytes[..<min(Int(count), bytes.count)])
    }

    /// I/O priority.
    ///
    /// The corresponding call is `ioprio_get`.
    public static func ioPriority(of tid: Int32) throws(TraceError) -> Int32 {
        try TraceError.check("ioprio_get", clinux_ioprio_get(tid), "Cannot read the I/O priority of thread \(tid)")
    }
}
