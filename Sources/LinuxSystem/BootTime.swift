// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// CLOCK_BOOTTIME, which goes on while the machine sleeps.
public enum BootTime {
    /// Nanoseconds since boot.
    ///
    /// The corresponding call is `clock_gettime(CLOCK_BOOTTIME)`.
    public static var now: Int64 {
        var time = timespec()
        // SAFETY: the kernel writes one timespec that lives until the call returns.
        unsafe clock_gettime(CLOCK_BOOTTIME, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
