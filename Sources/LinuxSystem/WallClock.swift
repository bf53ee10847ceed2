// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// CLOCK_REALTIME, clock_gettime(2).
public enum WallClock {
    /// Time since the epoch with nanoseconds.
    public static var now: Duration {
        var time = timespec()
        // SAFETY: the kernel fills the structure during the call.
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
    }
}
