// SPDX-License-Identifier: Apache-2.0
internal import CLinux

/// Features of a userfaultfd, ioctl_userfaultfd(2).
public struct UserfaultFeatures: OptionSet, Hashable, Sendable {
    /// The bits of the kernel.
    public let rawValue: UInt64

    /// Wraps bits of the kernel.
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// A fork of the process is reported and gives a userfaultfd for the child.
    public static let eventFork = Self(rawValue: clinux_UFFD_FEATURE_EVENT_FORK)
    /// mremap(2) is reported.
    public static let eventRemap = Self(rawValue: clinux_UFFD_FEATURE_EVENT_REMAP)
    /// MADV_DONTNEED, MADV_REMOVE and hole punching are reported.
    public static let eventRemove = Self(rawValue: clinux_UFFD_FEATURE_EVENT_REMOVE)
    /// munmap(2) is reported.
    public static let eventUnmap = Self(rawValue: clinux_UFFD_FEATURE_EVENT_UNMAP)
    /// Missing faults of shared memory.
    public static let missingShmem = Self(rawValue: clinux_UFFD_FEATURE_MISSING_SHMEM)
    /// A fault tells the thread that waits for it.
    public static let threadID = Self(rawValue: clinux_UFFD_FEATURE_THREAD_ID)
    /// A fault tells the address within the page.
    public static let exactAddress = Self(rawValue: clinux_UFFD_FEATURE_EXACT_ADDRESS)
    /// Write-protect faults.
    public static let writeProtect = Self(rawValue: clinux_UFFD_FEATURE_PAGEFAULT_FLAG_WP)
    /// Write protection of shared memory.
    public static let writeProtectShmem = Self(rawValue: clinux_UFFD_FEATURE_WP_HUGETLBFS_SHMEM)
    /// Write protection of pages that are not there.
    public static let writeProtectUnpopulated = Self(rawValue: clinux_UFFD_FEATURE_WP_UNPOPULATED)
    /// Writes to protected pages are only noted (Linux 6.7).
    public static let writeProtectAsync = Self(rawValue: clinux_UFFD_FEATURE_WP_ASYNC)
    /// UFFDIO_POISON (Linux 6.6).
    public static let poison = Self(rawValue: clinux_UFFD_FEATURE_POISON)

    /// What a restore cannot do without: without the events a forked child or a moved mapping reads zeros.
    public static let lazyRestore: Self = [
        .eventFork, .eventRemap, .eventRemove, .eventUnmap, .missingShmem, .threadID,
    ]

    /// The same for shared memory, whose events wait until all of it is there.
    ///
    /// An unmapping need not: the pages stay those of the object, and nobody finds them by that address any more.
    public static let lazyObjects: Self = [.eventFork, .eventRemap, .eventRemove, .missingShmem, .threadID]

    /// What a restore needs whose process stays tracked.
    public static let trackedRestore = lazyRestore.union(writeTracking)

    /// Writes are noted by the kernel and nothing is ever delivered, so nobody has to read messages.
    public static let writeTracking: Self = [.writeProtect, .writeProtectAsync, .writeProtectShmem]

    /// Writes are delivered and wait for an answer, and so do moves, which take the marks of pages with them.
    public static let deliveredWrites: Self = [.writeProtect, .eventRemap]
}

/// Modes of a registration; a new one replaces the old ones, so the union is passed always.
public struct RegistrationModes: OptionSet, Hashable, Sendable {
    /// The bits of the kernel.
    public let rawValue: UInt64

    /// Wraps bits of the kernel.
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// Pages that are not there.
    public static let missing = Self(rawValue: clinux_UFFDIO_REGISTER_MODE_MISSING)
    /// Writes to pages that are protected.
    public static let writeProtect = Self(rawValue: clinux_UFFDIO_REGISTER_MODE_WP)
}

/// How pages are installed.
public struct CopyModes: OptionSet, Hashable, Sendable {
    /// The bits of the kernel.
    public let rawValue: UInt64

    /// Wraps bits of the kernel.
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// Threads that wait for the pages go on waiting.
    public static let doNotWake = Self(rawValue: clinux_UFFDIO_COPY_MODE_DONTWAKE)
    /// The pages arrive write-protected.
    public static let writeProtect = Self(rawValue: clinux_UFFDIO_COPY_MODE_WP)
}
