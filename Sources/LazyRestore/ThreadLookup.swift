// SPDX-License-Identifier: Apache-2.0
internal import ProcessTrace

/// Finds threads of the restored process and of its descendants in `/proc`.
///
/// A page fault names its thread by the id that it has in its own pid namespace (`task_pid_vnr`, fs/userfaultfd.c). With
/// `--new-pid-namespace` somebody else has that id here.
struct ThreadLookup: Sendable {
    /// Id of the process, as it is seen here.
    private let pid: Int32
    /// Whether the process has a pid namespace below ours.
    private let hasOwnNamespace: Bool

    /// The most processes that are looked at.
    private static let maximumProcesses = 4096

    init(pid: Int32) {
        self.pid = pid
        hasOwnNamespace = ((try? ProcessStatus.read(pid))?.namespacePIDs.count ?? 1) > 1
    }

    /// The id here of the thread that a page fault calls `id`; nil when it has ended, or is no descendant any more.
    func find(_ id: Int32) -> Int32? {
        guard hasOwnNamespace else { return id }
        var processes = [pid]
        var index = 0
        while index < processes.count, processes.count < Self.maximumProcesses {
            let process = processes[index]
            index += 1
            for thread in (try? ProcFile.threads(of: process)) ?? [] {
                guard let status = try? ProcessStatus.read(process, thread: thread) else { continue }
                if status.namespacePIDs.last == id { return thread }
            }
            processes += (try? ProcFile.children(of: process)) ?? []
        }
        return nil
    }

    /// Whether a thread that a page fault calls `id` waits inside of a system call: then no signal and no tracer stops it.
    func isInSystemCall(_ id: Int32) -> Bool {
        guard let thread = find(id), let text = try? ProcFile.read("/proc/\(thread)/syscall") else { return false }
        // The number of the call, -1 outside of any. Or "running": told to stop, it faults again and again, and reaches no place to stop at.
        return !text.starts(with: "-1 ".utf8)
    }
}
