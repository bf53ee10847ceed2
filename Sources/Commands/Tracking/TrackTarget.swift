// SPDX-License-Identifier: Apache-2.0
internal import Checkpoint
internal import DirtyTracking
internal import Glibc
internal import LinuxSystem
internal import ProcessTrace
internal import Reporting

/// Whether a process is one whose writes can be tracked.
enum TrackTarget {
    /// Refuses what is no process of a user.
    static func check(_ pid: Int32) throws(SessionFailure) {
        if pid == getpid() { throw SessionFailure(.usage, "process \(pid) is this program, which cannot track itself") }
        if let stat = try? ProcessStat.read(pid), stat.field(9) & kernelThread != 0 {
            throw SessionFailure(.notFound, "\(pid) is a thread of the kernel, which has no memory of its own")
        }
    }

    /// Refuses a process that handles page faults itself.
    ///
    /// A userfaultfd of its own with nothing registered does not hinder the tracker; but what the process wanted to register while it is
    /// tracked would fail with EBUSY.
    static func refuseFaultHandlers(_ pid: Int32) throws(SessionFailure) {
        let found: [Finding]
        do throws(CheckpointError) { found = try PageFaultHandling.findings(of: pid) } catch {
            throw SessionFailure(error)
        }
        guard found.isEmpty else {
            throw SessionFailure(.refused, "process \(pid) cannot be tracked:", details: found.map(\.description))
        }
    }

    /// The name of a process for its users.
    static func name(of pid: Int32) -> String {
        (try? ProcessStat.read(pid)).map { String(decoding: $0.name, as: UTF8.self) } ?? "?"
    }

    /// What it means that a process cannot be opened.
    static func failure(_ error: SystemCallError, opening pid: Int32) -> SessionFailure {
        // The errno for a thread has changed between kernels.
        if let status = try? ProcessStatus.read(pid), status.tgid != pid {
            return SessionFailure(.notFound, "\(pid) is a thread of process \(status.tgid): use -t \(status.tgid)")
        }
        switch error.errno {
        case .noSuchProcess, .noEntry, .invalid: return SessionFailure(.notFound, "there is no process \(pid)")
        default: return SessionFailure(.systemCall, "process \(pid) cannot be opened: \(error)")
        }
    }

    /// PF_KTHREAD.
    private static let kernelThread: UInt64 = 0x0020_0000
}

extension SessionFailure {
    /// A failure of DirtyTracking.
    init(_ error: TrackingError) {
        self.init(ExitCode(rawValue: error.code.rawValue) ?? .bug, error.description)
    }

    /// A failure of Checkpoint.
    init(_ error: CheckpointError) {
        self.init(ExitCode(rawValue: error.code.rawValue) ?? .bug, error.description)
    }
}
