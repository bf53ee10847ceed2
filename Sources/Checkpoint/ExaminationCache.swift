// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging
internal import ProcessTrace

/// What is slow to find out and is remembered from looking at the running process, so that the freeze is short.
///
/// smaps costs 9 ms for each GiB that is present, as the kernel walks the page tables for it; its VmFlags are taken over for a
/// mapping that overlaps a known one of the same kind, since mappings merge only when their flags are equal. Advice that the
/// process gives by madvise(2) between the last look and the freeze is lost when nothing else about the mapping changes.
struct ExaminationCache: Sendable {
    /// A file by its inode and what changes with its contents.
    struct FileKey: Hashable {
        let device: UInt64
        let inode: UInt64
        let size: Int64
        let modified: Int64

        init(_ status: FileStatus) {
            device = status.device
            inode = status.inode
            size = status.size
            modified = status.modified
        }
    }

    /// A pipe, FIFO, memfd or shared memory by its inode.
    struct ObjectKey: Hashable {
        let device: UInt64
        let inode: UInt64

        init(_ status: FileStatus) {
            device = status.device
            inode = status.inode
        }
    }

    /// A mapping whose smaps has been read.
    struct KnownMapping: Sendable {
        let entry: MapEntry
        let flags: [String]
        let file: FileStatus?
    }

    /// Processes with less resident memory have their smaps read under the freeze, in pages (32 MiB).
    static let smallResidentPages: UInt64 = 8192

    /// Answers of the tracker of this program that has registered mappings of the process.
    var tracker: TrackerRegistrations?
    /// Whether a file was open with O_DIRECT.
    var usesDirectIO = false
    /// Ascending.
    var mappings: [KnownMapping] = []
    /// VmLck in kB when the mappings were read.
    var lockedKilobytes: UInt64 = 0
    /// Fingerprints of files, which take reading and hashing.
    var fingerprints: [FileKey: FileFingerprint] = [:]
    /// Objects that no other process has.
    var unshared: Set<ObjectKey> = []
    /// Open files that no other process has, by number and link of a descriptor, as a description has no number.
    var unsharedDescriptors: Set<String> = []
    /// Links of pipes and FIFOs that lead to other programs.
    var outsidePipes: Set<String> = []

    /// The known mapping of which `entry` is what has become.
    func known(_ entry: MapEntry) -> KnownMapping? {
        var low = 0
        var high = mappings.count
        while low < high {
            let middle = (low + high) / 2
            if mappings[middle].entry.range.upperBound <= entry.range.lowerBound {
                low = middle + 1
            } else {
                high = middle
            }
        }
        while low < mappings.count, mappings[low].entry.range.lowerBound < entry.range.upperBound {
            let candidate = mappings[low]
            let isSame =
                candidate.entry.isShared == entry.isShared && candidate.entry.inode == entry.inode
                && candidate.entry.deviceMajor == entry.deviceMajor && candidate.entry.deviceMinor == entry.deviceMinor
                && candidate.entry.nameBytes == entry.nameBytes
            if isSame { return candidate }
            low += 1
        }
        return nil
    }
}
