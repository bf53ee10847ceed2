// SPDX-License-Identifier: Apache-2.0
//
// Fields are named as in proc(5) and in the calls that set them; those that need more words have them.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

public import Paging

/// The address space.
public struct MemoryDescription: ArchivedValue, Equatable {
    /// Every VMA, ascending, vDSO and vvar among them, `[vsyscall]` left out.
    public var mappings: [MappingDescription] = []
    /// Files that mappings refer to by index.
    public var files: [FileIdentity] = []
    /// Shared anonymous memory and memfds that mappings and descriptors refer to by index.
    public var sharedObjects: [SharedObject] = []
    public var layout = MemoryLayoutFields()
    /// `/proc/PID/auxv`, raw.
    public var auxiliaryVector: [UInt8] = []
    /// The bytes of the `[vdso]` mapping, to compare with the destination's.
    public var vdso: [UInt8] = []
    /// PR_GET_THP_DISABLE.
    public var hugePagesDisabled = false
    /// mlockall(MCL_FUTURE [| MCL_ONFAULT]) flags when they are known, else 0.
    public var lockFutureFlags: UInt32 = 0

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&mappings)
        try archive.field(&files)
        try archive.field(&sharedObjects)
        try archive.field(&layout)
        try archive.field(&auxiliaryVector)
        try archive.field(&vdso)
        try archive.field(&hugePagesDisabled)
        try archive.field(&lockFutureFlags)
    }
}

/// One VMA.
public struct MappingDescription: ArchivedValue, Equatable {
    /// What stands behind a VMA and so how it is restored.
    public enum Kind: UInt8, Sendable {
        /// Private anonymous memory: lazy.
        case anonymous = 0
        /// Private mapping of a file: mapped again, written pages eager.
        case privateFile = 1
        /// Shared mapping of a file on disk: mapped again.
        case sharedFile = 2
        /// Shared anonymous memory or a memfd: an object of ``MemoryDescription/sharedObjects``.
        case sharedObject = 3
        /// Private mapping of a memfd or shared anonymous object.
        case privateObject = 4
        /// `[vdso]`, `[vvar]`, `[vvar_vclock]`: the destination's own, moved.
        case kernel = 5
    }

    public var start: UInt64 = 0
    public var end: UInt64 = 0
    public var kind = Kind.anonymous
    /// PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4.
    public var protection: UInt8 = 0
    /// Byte offset in the file or object.
    public var offset: UInt64 = 0
    /// Index into files or shared objects, by kind.
    public var object: UInt32 = 0
    /// Whether the file was opened for writing (a shared mapping that may be made writable, VmFlags `mw`).
    public var mayWrite = false
    /// Two-letter VmFlags of smaps(5) separated by spaces: `gd` grows down, `lo` locked, `nr` no reserve, `dc` do not copy on fork,
    /// `wf` wipe on fork, `dd` do not dump, `hg`/`nh` huge page advice, `rr`/`sr` read advice, `mg` mergeable.
    public var flags = ""
    /// `[heap]`, `[stack]`, `[vdso]`, `[anon:NAME]` or a path, as maps(5) shows it.
    public var name = ""

    public init() {}

    /// The addresses of the mapping.
    public var range: AddressRange {
        AddressRange(VirtualAddress(start), VirtualAddress(end))
    }

    /// Whether VmFlags holds `flag` (two letters).
    public func has(_ flag: String) -> Bool {
        flags.split(separator: " ").contains { $0 == flag }
    }

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&start)
        try archive.field(&end)
        try archive.field(&kind)
        try archive.field(&protection)
        try archive.field(&offset)
        try archive.field(&object)
        try archive.field(&mayWrite)
        try archive.field(&flags)
        try archive.field(&name)
        guard start < end, start % PageSize.base == 0, end % PageSize.base == 0 else {
            throw ProcessImageError("a mapping \(range) that is empty or not page-aligned")
        }
    }
}

/// How the destination tells that a path leads to the same file.
public struct FileIdentity: ArchivedValue, Equatable {
    public var path = ""
    public var size: UInt64 = 0
    /// ELF build id (NT_GNU_BUILD_ID), or empty.
    public var buildID: [UInt8] = []
    /// SHA-256 of the file when it has no build id and is at most ``FileIdentity/maximumDigestedSize`` long, or empty.
    public var digest: [UInt8] = []
    /// Modification time in nanoseconds, compared when there is neither build id nor digest.
    public var modified: Int64 = 0
    /// Whether a mapping or descriptor writes it, so that size and contents are those of the freeze.
    public var writable = false

    /// Larger files without a build id are compared by size and modification time.
    public static let maximumDigestedSize: UInt64 = 64 << 20

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&path)
        try archive.field(&size)
        try archive.field(&buildID)
        try archive.field(&digest)
        try archive.field(&modified)
        try archive.field(&writable)
    }
}

/// Memory that several mappings or descriptors share.
public struct SharedObject: ArchivedValue, Equatable {
    public enum Kind: UInt8, Sendable {
        /// mmap(MAP_SHARED | MAP_ANONYMOUS), `/dev/zero` shared.
        case anonymous = 0
        /// memfd_create(2).
        case memfd = 1
    }

    public var kind = Kind.anonymous
    /// The name given to memfd_create(2).
    public var name = ""
    public var size: UInt64 = 0
    /// F_GET_SEALS.
    public var seals: UInt32 = 0
    /// memfd_create(2) flags that can be told from outside (MFD_EXEC state by mode bits).
    public var mode: UInt32 = 0
    /// Whether its pages arrive on first touch, see ``MemoryDescription/lazyObjectMappings()``; else its contents go ahead.
    public var isLazy = false

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&kind)
        try archive.field(&name)
        try archive.field(&size)
        try archive.field(&seals)
        try archive.field(&mode)
        try archive.field(&isLazy)
    }
}

/// The fields of PR_SET_MM_MAP (prctl(2)).
public struct MemoryLayoutFields: ArchivedValue, Equatable {
    public var startCode: UInt64 = 0
    public var endCode: UInt64 = 0
    public var startData: UInt64 = 0
    public var endData: UInt64 = 0
    public var startBrk: UInt64 = 0
    public var brk: UInt64 = 0
    public var startStack: UInt64 = 0
    public var argStart: UInt64 = 0
    public var argEnd: UInt64 = 0
    public var envStart: UInt64 = 0
    public var envEnd: UInt64 = 0

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&startCode)
        try archive.field(&endCode)
        try archive.field(&startData)
        try archive.field(&endData)
        try archive.field(&startBrk)
        try archive.field(&brk)
        try archive.field(&startStack)
        try archive.field(&argStart)
        try archive.field(&argEnd)
        try archive.field(&envStart)
        try archive.field(&envEnd)
    }
}

/// Pages or bytes that are at the destination before the process runs.
public struct EagerPages: ArchivedValue, Equatable {
    /// Where the bytes belong.
    public enum Target: UInt8, Sendable {
        /// `address` is an address of the process.
        case process = 0
        /// `address` is an offset in shared object `object`.
        case sharedObject = 1
    }

    /// The most bytes in one value.
    public static let maximumBytes = 1 << 20

    public var target = Target.process
    public var object: UInt32 = 0
    public var address: UInt64 = 0
    public var bytes: [UInt8] = []

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&target)
        try archive.field(&object)
        try archive.field(&address)
        try archive.field(&bytes)
        guard bytes.count <= Self.maximumBytes else {
            throw ProcessImageError("\(bytes.count) eager bytes in one piece")
        }
    }
}
