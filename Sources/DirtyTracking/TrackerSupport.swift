// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem

/// What the running kernel offers for tracking, asked on scratch mappings of this program.
public struct TrackerSupport: Hashable, Sendable {
    /// Whether a strategy can be used.
    public enum Availability: Hashable, Sendable {
        /// It can.
        case available
        /// It cannot, and what to do about it.
        case unavailable(reason: String, remedy: String)
    }

    /// Of ``TrackerStrategy/writeProtectAsync``.
    public var writeProtectAsync: Availability
    /// Of ``TrackerStrategy/writeProtectSync``; whether a certain process may have the userfaultfd for it shows when it begins.
    public var writeProtectSync: Availability
    /// Of ``TrackerStrategy/softDirty``.
    public var softDirty: Availability

    /// States what is available.
    public init(writeProtectAsync: Availability, writeProtectSync: Availability, softDirty: Availability) {
        self.writeProtectAsync = writeProtectAsync
        self.writeProtectSync = writeProtectSync
        self.softDirty = softDirty
    }

    /// Asks the kernel.
    public static func probe() -> TrackerSupport {
        TrackerSupport(
            writeProtectAsync: async(clinux_probe_write_protect(1), clinux_probe_scan_categories(0)),
            writeProtectSync: sync(
                clinux_probe_write_protect(0),
                scan: clinux_probe_scan_categories(0),
                plain: clinux_probe_written_without_userfaultfd()
            ),
            softDirty: clinux_probe_soft_dirty() == 0
                ? .available
                : .unavailable(
                    reason: "this kernel has no soft-dirty bits",
                    remedy: "boot a kernel with CONFIG_MEM_SOFT_DIRTY (x86-64, s390x, ppc64), or use wp-async"
                )
        )
    }

    /// The availability of a strategy; ``TrackerStrategy/none`` always is.
    public func availability(of strategy: TrackerStrategy) -> Availability {
        switch strategy {
        case .writeProtectAsync: writeProtectAsync
        case .writeProtectSync: writeProtectSync
        case .softDirty: softDirty
        case .none: .available
        }
    }

    /// The strategy for what was asked for.
    ///
    /// - Throws: ``TrackingError`` with code `unavailable` and the remedy when a certain one was asked for and cannot be used.
    public func strategy(for choice: TrackerChoice) throws(TrackingError) -> TrackerStrategy {
        switch choice {
        case .auto:
            // Not soft-dirty: the application may use it itself, which cannot be told from outside.
            [.writeProtectAsync, .writeProtectSync].first { availability(of: $0) == .available } ?? .none
        case .writeProtectAsync: try demand(.writeProtectAsync, choice)
        case .writeProtectSync: try demand(.writeProtectSync, choice)
        case .softDirty: try demand(.softDirty, choice)
        case .none: .none
        }
    }

    private func demand(_ strategy: TrackerStrategy, _ choice: TrackerChoice) throws(TrackingError) -> TrackerStrategy {
        guard case .unavailable(let reason, let remedy) = availability(of: strategy) else { return strategy }
        throw TrackingError(.unavailable, "the tracker \(choice.rawValue) cannot be used: \(reason); \(remedy)")
    }

    private static func async(_ armed: Int32, _ scan: Int32) -> Availability {
        if let common = common(armed, scan) { return common }
        guard armed == 0 else {
            return .unavailable(
                reason: "this kernel has no asynchronous write protection",
                remedy: "boot Linux 6.7 or newer (arm64: 6.10)"
            )
        }
        return .available
    }

    private static func sync(_ armed: Int32, scan: Int32, plain: Int32) -> Availability {
        if let common = common(armed, scan) { return common }
        guard armed == 0 else {
            return .unavailable(
                reason: armed == -ENODATA
                    ? "this kernel does not show which pages are protected"
                    : "this kernel has no write protection by userfaultfd",
                remedy: "boot Linux 5.14 or newer (arm64: 6.10)"
            )
        }
        guard plain == 0 else {
            return .unavailable(
                reason: "this kernel does not show which mappings are registered for synchronous write protection",
                remedy: "use wp-async, which it has"
            )
        }
        return .available
    }

    /// What both write protections need.
    private static func common(_ armed: Int32, _ scan: Int32) -> Availability? {
        if scan == -ENOTTY || scan == -EINVAL {
            return .unavailable(reason: "this kernel has no PAGEMAP_SCAN", remedy: "boot Linux 6.7 or newer")
        }
        if scan < 0 { return unexpected("PAGEMAP_SCAN", scan) }
        switch armed {
        case 0, -EINVAL, -ENODATA: return nil
        case -ENOSYS:
            return .unavailable(
                reason: "this kernel has no userfaultfd",
                remedy: "boot a kernel with CONFIG_USERFAULTFD"
            )
        default: return unexpected("userfaultfd", armed)
        }
    }

    private static func unexpected(_ call: String, _ result: Int32) -> Availability {
        .unavailable(
            reason: "\(call) says \(Errno(rawValue: -result))",
            remedy: "run as root; in a container its seccomp filter must allow the call"
        )
    }
}
