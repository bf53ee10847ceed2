// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import ProcessTrace

/// Descriptors through which memory is written to, or write protection is used, without the tracker's knowledge.
///
/// A direct read pins its pages, which marks them as written, and the device fills them later. A page that is armed in between takes in
/// data without another mark: it would count as unchanged since it was read. A read(2) ends before its thread can be stopped, so arming a
/// stopped process is safe; what io_uring has begun goes on without a thread.
enum UnseenWrites: Equatable {
    /// No descriptor can do it.
    case none
    /// A descriptor can, in calls of threads.
    case inCalls(String)
    /// A descriptor stands for operations that no stop ends, or for a userfaultfd of the process's own.
    case refused(String)

    /// Looks at the descriptors of a process as they are now.
    static func find(_ pid: Int32) throws(TraceError) -> UnseenWrites {
        let mounts = try directMounts(of: pid)
        var found = UnseenWrites.none
        for number in try ProcFile.descriptors(of: pid) {
            let path = "/proc/\(pid)/fdinfo/\(number)"
            let text: [UInt8]
            do { text = try ProcFile.read(path) } catch {
                // Closed meanwhile; the next look at the list tells when it is the process that has gone.
                guard error.code == .gone else { throw error }
                continue
            }
            if let object = refusedObject(text) { return .refused("descriptor \(number) (\(object))") }
            let info = try FdInfo(text, file: path)
            guard isReadable(info.flags), info.flags & directFlag != 0 || mounts.contains(info.mountID) else {
                continue
            }
            let target = String(decoding: try ProcFile.link("/proc/\(pid)/fd/\(number)") ?? [], as: UTF8.self)
            // Pipes of packets have the flag, too.
            if target.hasPrefix("/") { found = .inCalls("descriptor \(number) (\(target))") }
        }
        return found
    }

    /// Whether a stop is needed for arming.
    ///
    /// - Throws: ``TrackingError`` with code `refused` when a stop would not be enough.
    static func areInCalls(of pid: Int32, _ process: ProcessDescriptor) throws(TrackingError) -> Bool {
        let found: UnseenWrites
        do { found = try find(pid) } catch {
            throw TrackingError.of(error, pid: pid, process: process, doing: "look at the descriptors of")
        }
        switch found {
        case .none: return false
        case .inCalls: return true
        case .refused(let object):
            throw TrackingError(
                .refused,
                "process \(pid) has \(object), through which memory changes or is watched unseen: let the program close it"
            )
        }
    }

    // O_DIRECT of the architectures that are carried; the Glibc module lacks it.
    #if arch(x86_64)
    private static let directFlag: UInt32 = 0o40000
    #else
    private static let directFlag: UInt32 = 0o200000
    #endif

    private static func isReadable(_ flags: UInt32) -> Bool {
        let pathOnly: UInt32 = 0o10000000
        return flags & UInt32(O_ACCMODE) != UInt32(O_WRONLY) && flags & pathOnly == 0
    }

    /// What a descriptor is, by a line of its fdinfo that no other kind has.
    private static func refusedObject(_ text: [UInt8]) -> String? {
        for line in text.split(separator: UInt8(ascii: "\n")) {
            if line.starts(with: "SqMask:".utf8) { return "io_uring" }
            if line.starts(with: "API:".utf8) { return "userfaultfd" }
        }
        return nil
    }

    /// File systems that may read into pinned pages without being asked to by a flag.
    private static let directFileSystems: Set<String> = ["fuse", "fuseblk", "virtiofs", "9p", "cifs", "smb3", "ceph"]

    /// Ids of their mounts, from `/proc/PID/mountinfo`.
    private static func directMounts(of pid: Int32) throws(TraceError) -> Set<Int32> {
        directMounts(String(decoding: try ProcFile.read("/proc/\(pid)/mountinfo"), as: UTF8.self))
    }

    /// As in `36 35 98:0 / /mnt rw,noatime master:1 - fuse.sshfs host:/ rw`.
    static func directMounts(_ mountInfo: String) -> Set<Int32> {
        var mounts: Set<Int32> = []
        for line in mountInfo.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard let id = words.first.flatMap({ Int32($0) }), let separator = words.firstIndex(of: "-"),
                separator + 1 < words.count
            else { continue }
            let type = words[separator + 1].prefix { $0 != "." }
            if directFileSystems.contains(String(type)) { mounts.insert(id) }
        }
        return mounts
    }
}
