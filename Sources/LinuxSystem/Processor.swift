// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// The CPU that the calling thread runs on.
public enum Processor {
    /// Lets another thread run that is ready to.
    ///
    /// The corresponding call is `sched_yield`.
    public static func yield() {
        sched_yield()
    }
}
