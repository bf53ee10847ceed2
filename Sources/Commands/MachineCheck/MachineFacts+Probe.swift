// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import COpenSSL
internal import DirtyTracking
internal import Glibc
internal import LinuxSystem

extension MachineFacts {
    /// Asks this machine; every question is undone before the next.
    static func probe() -> MachineFacts {
        var facts = MachineFacts()
        facts.readFiles()
        facts.pageBytes = sysconf(Int32(_SC_PAGESIZE))
        facts.openSSLVersion = OpenSSL_version_num()
        facts.architecture = currentArchitecture
        #if arch(x86_64)
        facts.extendedState = clinux_xcr0()
        #endif
        facts.userfaultfdBySystemCall = Answer(clinux_probe_userfaultfd(Int32(CLINUX_PROBE_UFFD_SYSTEM_CALL)))
        facts.userfaultfdByDevice = Answer(clinux_probe_userfaultfd(Int32(CLINUX_PROBE_UFFD_DEVICE)))
        facts.userfaultfdUserModeOnly = Answer(
            clinux_probe_userfaultfd(Int32(CLINUX_PROBE_UFFD_USER_MODE_ONLY))
        )
        facts.userfaultfdEvents = Answer(Int64(clinux_probe_userfaultfd_events()))
        facts.pagemapScan = Answer(Int64(clinux_probe_pagemap_scan()))
        facts.guardPages = Answer(Int64(clinux_probe_guard_pages()))
        facts.softDirty = Answer(Int64(clinux_probe_soft_dirty()))
        for bug in KernelBug.allCases { facts.kernelBugs[bug] = bug.probe() }
        facts.trace = Answer(Int64(clinux_probe_ptrace()))
        facts.rseqConfiguration = Answer(Int64(clinux_probe_rseq_configuration()))
        facts.processMemory = Answer(Int64(clinux_probe_process_memory()))
        facts.pidfdGetfd = Answer(Int64(clinux_probe_pidfd_getfd()))
        facts.kcmp = Answer(Int64(clinux_probe_kcmp()))
        facts.setTID = Answer(Int64(clinux_probe_set_tid()))
        facts.pidNamespace = Answer(Int64(clinux_probe_pid_namespace()))
        facts.timeNamespace = Answer(Int64(clinux_probe_time_namespace()))
        facts.timerRestoreIDs = Answer(Int64(clinux_probe_timer_restore_ids()))
        facts.memoryMap = Answer(Int64(clinux_probe_mm_map()))
        return facts
    }

    private mutating func readFiles() {
        if let release = Self.text("/proc/sys/kernel/osrelease") { kernelRelease = release }
        ptraceScope = Self.text("/proc/sys/kernel/yama/ptrace_scope").flatMap { Int($0) }
        let status = Self.text("/proc/self/status") ?? ""
        for line in status.split(separator: "\n") {
            let fields = line.split(whereSeparator: { $0 == "\t" || $0 == " " })
            guard fields.count == 2 else { continue }
            switch fields[0] {
            case "CapEff:": capabilities = UInt64(fields[1], radix: 16) ?? 0
            case "Seccomp:": hasSeccompFilter = fields[1] == "2"
            default: break
            }
        }
    }

    /// A file without its last line feed; nil when it cannot be read, which is an answer as well.
    private static func text(_ path: String) -> String? {
        guard let bytes = try? FileReading.read(path) else { return nil }
        let text = String(decoding: bytes, as: UTF8.self)
        return text.hasSuffix("\n") ? String(text.dropLast()) : text
    }

    private static var currentArchitecture: String {
        #if arch(x86_64)
        "x86_64"
        #elseif arch(arm64)
        "aarch64"
        #else
        "unknown"
        #endif
    }
}
