// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// The CPUs that a thread may run on.
public struct CPUAffinity: Hashable, Sendable {
    /// The kernel's mask: bit n of the bytes, counted from the first byte, is CPU n.
    public let mask: [UInt8]

    /// Wraps a mask, whole 8-byte words as the kernel writes them.
    public init(mask: [UInt8]) {
        self.mask = mask
    }

    /// One CPU only.
    public init(cpu: Int) {
        precondition(cpu >= 0 && cpu < 65536, "CPUAffinity: no such CPU")
        var bytes = [UInt8](repeating: 0, count: (cpu / 64 + 1) * 8)
        bytes[cpu / 8] = 1 << UInt8(cpu % 8)
        mask = bytes
    }

    /// Of a thread, by default the calling one.
    ///
    /// The corresponding call is `sched_getaffinity`.
    public init(thread: Int32 = 0) throws(SystemCallError) {
        var size = 128
        while true {
            var count: Int32 = 0
            let bytes = unsafe [UInt8](unsafeUninitializedCapacity: size) { buffer, initialised in
                guard let start = buffer.baseAddress else { return }
                // SAFETY: the kernel writes at most `size` bytes into the array's own memory.
                count = unsafe clinux_get_affinity(thread, start, size)
                initialised = Int(max(0, count))
            }
            // The kernel wants room for every CPU that it was built for, and says EINVAL otherwise.
            if count == -EINVAL && size < 65536 {
                size *= 2
                continue
            }
            try checked("sched_getaffinity", count, operand: "thread \(thread)")
            mask = bytes
            return
        }
    }

    /// The numbers of the CPUs.
    public var cpus: [Int] {
        (0..<mask.count * 8).filter { mask[$0 / 8] & (1 << UInt8($0 % 8)) != 0 }
    }

    /// Makes this the CPUs that a thread, by default the calling one, may run on.
    ///
    /// - Throws: ``SystemCallError`` with `EINVAL` when none of the CPUs exists.
    ///
    /// The corresponding call is `sched_setaffinity`.
    public func apply(to thread: Int32 = 0) throws(SystemCallError) {
        let result = unsafe mask.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return -EINVAL }
            // SAFETY: the array's own memory.
            return unsafe clinux_set_affinity(thread, start, bytes.count)
        }
        try checked("sched_setaffinity", result, operand: "thread \(thread)")
    }

    /// Moves the calling thread to one CPU.
    ///
    /// - Returns: what it was allowed before, for ``apply(to:)``.
    public static func pin(to cpu: Int) throws(SystemCallError) -> CPUAffinity {
        let before = try CPUAffinity()
        try CPUAffinity(cpu: cpu).apply()
        return before
    }
}
