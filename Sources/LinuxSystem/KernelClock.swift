// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// A clock of clock_gettime(2) by its number.
public enum KernelClock {
    /// CLOCK_MONOTONIC.
    public static let monotonic: Int32 = CLOCK_MONOTONIC
    /// CLOCK_BOOTTIME.
    public static let boot: Int32 = CLOCK_BOOTTIME
    /// CLOCK_REALTIME.
    public static let real: Int32 = CLOCK_REALTIME

    /// Nanoseconds that a clock shows; 0 when there is no such clock.
    ///
    /// The corresponding call is `clock_gettime`.
    public static func nanoseconds(_ clock: Int32) -> Int64 {
        var time = timespec()
        // SAFETY: the kernel writes one timespec that lives until the call returns.
        guard unsafe clock_gettime(clockid_t(clock), &time) == 0 else { return 0 }
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
