// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import LinuxSystem
internal import ProcessTrace

/// What tells that a process handles page faults by a userfaultfd, or another program does so for it.
///
/// A part of an ``Examination``, for those that want to look at a process without moving it: needs no more permission than tracing
/// the process does.
public enum PageFaultHandling {
    /// Looks at a running process; nothing of it is stopped or altered.
    ///
    /// A userfaultfd that waits in a socket, or that another program holds, shows by its registrations only.
    ///
    /// - Returns: what would be refused as ``RefusedObject/userfaultfd`` or ``RefusedObject/foreignUserfaultfd``.
    /// - Throws: ``CheckpointError`` when the process cannot be looked at.
    public static func findings(of pid: Int32) throws(CheckpointError) -> [Finding] {
        try CheckpointError.translating(pid, "examine") {
            // Whoever may not see the descriptors must not take them for none.
            _ = try ProcFile.descriptors(of: pid)
            var findings = userfaultfds(inTableOf: pid, of: nil)
            for thread in try ProcFile.threads(of: pid)
            where thread != pid && clinux_kcmp(pid, thread, clinux_KCMP_FILES, 0, 0) > 0 {
                findings += userfaultfds(inTableOf: thread, of: "thread \(thread)")
            }
            for child in try Neighbours.children(of: pid) {
                findings += userfaultfds(inTableOf: child, of: "child process \(child)")
            }
            for entry in try ProcessMaps.readDetailed(pid) where isRegistered(entry) {
                findings.append(Finding(.foreignUserfaultfd, Survey.object(entry)))
            }
            return findings
        }
    }

    /// The userfaultfds in a descriptor table; nothing tells whose memory they handle.
    ///
    /// - Parameter name: of the owner, when it is not the process itself.
    static func userfaultfds(inTableOf owner: Int32, of name: String?) -> [Finding] {
        // Children and threads end as they like.
        ((try? ProcFile.descriptors(of: owner)) ?? []).compactMap { number in
            guard let bytes = try? ProcFile.link("/proc/\(owner)/fd/\(number)") else { return nil }
            let link = String(decoding: bytes, as: UTF8.self)
            guard link.hasPrefix("anon_inode:"),
                DescriptorKind.anonymous(String(link.dropFirst("anon_inode:".count))) == .refused(.userfaultfd)
            else { return nil }
            return Finding(.userfaultfd, "descriptor \(number)\(name.map { " of \($0)" } ?? "") (\(link))")
        }
    }

    private static func isRegistered(_ entry: MapEntry) -> Bool {
        let flags = entry.details?.flags ?? []
        return ["um", "uw", "ui"].contains(where: flags.contains)
    }
}
