// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import ProcessTrace

/// Whether paths, users and addresses mean the same for a process as for this program.
enum Surroundings {
    /// Namespaces in which process and program must be the same.
    private static let same = ["net", "ipc", "uts", "user", "cgroup"]
    /// Namespaces of which children get another one than the process has, when it has called unshare(2) or setns(2).
    private static let ownOfChildren = ["pid", "time"]

    static func findings(of pid: Int32) throws -> [Finding] {
        var findings: [Finding] = []
        for name in same {
            let ours = try link("/proc/self/ns/\(name)")
            let theirs = try link("/proc/\(pid)/ns/\(name)")
            if ours != theirs { findings.append(Finding(.namespace, "\(name) namespace (\(text(theirs)))")) }
        }
        for name in ownOfChildren {
            let own = try link("/proc/\(pid)/ns/\(name)")
            let future = try link("/proc/\(pid)/ns/\(name)_for_children")
            if own != future && future != nil {
                findings.append(Finding(.namespace, "\(name) namespace of future children (\(text(future)))"))
            }
        }
        let mounts = try link("/proc/\(pid)/ns/mnt")
        if try mounts != link("/proc/self/ns/mnt") {
            let theirs = try mountTable(of: "\(pid)")
            let ours = try mountTable(of: "self")
            if theirs != ours { findings.append(Finding(.namespace, "mnt namespace (\(text(mounts)))")) }
        }
        let root = try FileStatus(path: "/proc/\(pid)/root")
        let ourRoot = try FileStatus(path: "/")
        if (root.device, root.inode) != (ourRoot.device, ourRoot.inode) {
            findings.append(Finding(.changedRoot, "root directory \(Survey.link("/proc/\(pid)/root"))"))
        }
        return findings
    }

    private static func link(_ path: String) throws(TraceError) -> [UInt8]? {
        try ProcFile.link(path)
    }

    private static func text(_ link: [UInt8]?) -> String {
        link.map { String(decoding: $0, as: UTF8.self) } ?? "none"
    }

    /// What is mounted where, `/proc` left out: a process that Thaw has restored has a mount namespace with a `/proc` of its own.
    private static func mountTable(of pid: String) throws -> [String] {
        mountTable(try ProcFile.read("/proc/\(pid)/mountinfo"))
    }

    /// Device, root, mount point and file system of each line of mountinfo, proc_pid_mountinfo(5), sorted.
    static func mountTable(_ text: [UInt8]) -> [String] {
        var table: [String] = []
        for line in text.split(separator: 0x0a) {
            let words = String(decoding: line, as: UTF8.self).split(separator: " ")
            guard words.count > 6, let separator = words.firstIndex(of: "-"), separator + 1 < words.count else {
                table.append(String(decoding: line, as: UTF8.self))
                continue
            }
            let point = words[4]
            if point == "/proc" || point.hasPrefix("/proc/") { continue }
            table.append("\(words[2]) \(words[3]) \(point) \(words[separator + 1])")
        }
        return table.sorted()
    }
}
