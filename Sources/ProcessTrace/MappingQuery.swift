// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
public import Paging

/// Finds single mappings of a process without reading all of its `/proc/PID/maps` (PROCMAP_QUERY, Linux 6.11).
public struct MappingQuery: ~Copyable, Sendable {
    private let file: OwnedDescriptor

    /// Opens `/proc/PID/maps`.
    public init(pid: Int32) throws(TraceError) {
        file = try ProcFile.open("/proc/\(pid)/maps", O_RDONLY)
    }

    /// What the kernel says.
    public enum Answer: Hashable, Sendable {
        /// The mapping.
        case mapping(AddressRange)
        /// There is none behind the address.
        case none
        /// The kernel cannot be asked so, or the process is gone.
        case unknown
    }

    /// The mapping that holds `address`, or the next one behind it.
    public func mapping(from address: VirtualAddress) -> Answer {
        var start = address.rawValue
        var end: UInt64 = 0
        // SAFETY: the shim writes both words.
        switch unsafe clinux_procmap_query(file.rawValue, &start, &end) {
        case 0 where start < end: return .mapping(AddressRange(VirtualAddress(start), VirtualAddress(end)))
        case -ENOENT: return .none
        default: return .unknown
        }
    }
}
