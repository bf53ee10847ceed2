// SPDX-License-Identifier: Apache-2.0

/// How writes of a running process are noticed.
public enum TrackerStrategy: String, Sendable, CaseIterable {
    /// The kernel notes the first write to a page (UFFD_FEATURE_WP_ASYNC and PAGEMAP_SCAN, Linux 6.7).
    case writeProtectAsync
    /// The first write to a page waits until a thread of this program has lifted the protection of the page.
    case writeProtectSync
    /// The soft-dirty bits of the page tables; each round stops the process while they are read and cleared.
    case softDirty
    /// Not at all: every page counts as written.
    case none
}

/// What the user asks for; raw values are those of `--tracker`.
public enum TrackerChoice: String, Sendable, CaseIterable {
    /// The best write protection that there is; else none.
    ///
    /// Never soft-dirty: whether the application uses those bits itself cannot be told from outside, so they need the user's word.
    case auto
    /// ``TrackerStrategy/writeProtectAsync`` or an error.
    case writeProtectAsync = "wp-async"
    /// ``TrackerStrategy/writeProtectSync`` or an error.
    case writeProtectSync = "wp-sync"
    /// ``TrackerStrategy/softDirty`` or an error.
    case softDirty = "soft-dirty"
    /// ``TrackerStrategy/none``.
    case none
}
