// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import LinuxSystem
internal import ProcessTrace
internal import Userfaultfd

/// How rounds look at pages; decided by asking the kernel, and by tests that ask for the longer ways.
struct Looking {
    /// PAGEMAP_SCAN is used.
    ///
    /// Without it the entries of `/proc/PID/pagemap` are read (before Linux 6.7).
    var scans: Bool
    /// Guards have a category of their own.
    var knowsGuards: Bool
    /// What is thrown away shows by a short look.
    var seesHoles: Bool
    /// Writes past the page tables, and userfaultfds of the process, are looked for, for the sake of pages that are moved.
    var mindsUnseenWrites = true

    /// The shortest ways that the running kernel allows.
    static func shortest(_ strategy: TrackerStrategy) -> Looking {
        let isSync = strategy == .writeProtectSync
        return Looking(
            scans: !isSync || clinux_probe_scan_categories(0) == 0,
            knowsGuards: clinux_probe_scan_categories(clinux_PAGE_IS_GUARD) == 0,
            // Where a mapping is registered cannot be asked for with synchronous protection, and one that is not hides its holes.
            seesHoles: !isSync && KernelBug.hiddenHugeHole.probe() != .present
        )
    }
}

extension WriteProtectRounds {
    /// Makes a userfaultfd of the process and registers its mappings.
    ///
    /// - Throws: ``TrackingError``; everything is undone then, because the userfaultfd is closed.
    static func begin(
        _ pid: Int32,
        _ strategy: TrackerStrategy,
        _ scope: TrackingScope,
        _ timeout: Duration,
        _ looking: Looking
    ) throws(TrackingError) -> WriteProtectRounds {
        let process = try TrackingError.translatingCall(pid, "find") { () throws(SystemCallError) in
            try ProcessDescriptor(pid: pid)
        }
        let isSync = strategy == .writeProtectSync
        let view = try view(pid, looking)
        // Where nothing is delivered a userfaultfd need not be able to deliver the kernel's own faults, and any process may have it.
        let uffd = try adopt(
            try InjectedUserfaultfd.make(in: process, pid, isSync ? .full : .userModeOnly, timeout: timeout),
            isSync ? .deliveredWrites : .writeTracking
        )
        // Before anything is armed.
        let resolver = isSync ? try resolver(pid, uffd) : nil
        var rounds = WriteProtectRounds(
            pid: pid,
            process: process,
            scope: scope,
            uffd: uffd,
            arming: isSync ? .ioctl : .scan,
            queries: PageQueries(knowsGuards: looking.knowsGuards || !looking.scans),
            seesHoles: looking.seesHoles,
            resolver: resolver,
            view: view,
            timeout: timeout,
            mindsUnseenWrites: looking.mindsUnseenWrites && scope == .privateAnonymous
        )
        try rounds.registerAll()
        return rounds
    }

    private static func view(_ pid: Int32, _ looking: Looking) throws(TrackingError) -> PageView {
        try TrackingError.translating(pid, "look at the pages of") { () throws(TraceError) in
            guard looking.scans else {
                return .entries(try PagemapReader(pid: pid), PageCategorizer(.writeProtection))
            }
            return .scan(try Pagemap(pid: pid), ScanBuffer())
        }
    }

    private static func adopt(
        _ descriptor: consuming OwnedDescriptor,
        _ features: UserfaultFeatures
    ) throws(TrackingError) -> Userfaultfd {
        do { return try Userfaultfd.adopt(descriptor, features: features) } catch {
            let what =
                features.contains(.writeProtectAsync)
                ? "asynchronous write protection: boot Linux 6.7 or newer"
                : "write protection: boot Linux 5.14 or newer"
            throw TrackingError(.unavailable, "this kernel has no \(what)", cause: error)
        }
    }

    private static func resolver(_ pid: Int32, _ uffd: borrowing Userfaultfd) throws(TrackingError) -> FaultResolver {
        do { return try FaultResolver(pid: pid, uffd.duplicate()) } catch {
            throw TrackingError(.systemCall, "cannot start a thread for the writes of process \(pid)", cause: error)
        }
    }
}
