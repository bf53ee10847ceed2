// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import LinuxSystem

extension MachineReport {
    /// Judges what was found.
    init(_ facts: MachineFacts) {
        machine = "Linux \(facts.kernelRelease), \(facts.architecture)"
        requirements =
            Self.platform(facts) + Self.userfaultfd(facts) + Self.reading(facts) + Self.tracing(facts)
            + Self.tracker(facts) + Self.building(facts) + Self.permissions(facts)
    }

    private static func platform(_ facts: MachineFacts) -> [Requirement] {
        let major = facts.openSSLVersion >> 28
        let version = "\(major).\(facts.openSSLVersion >> 20 & 0xff).\(facts.openSSLVersion >> 4 & 0xffff)"
        return [
            Requirement(
                "x86-64",
                .both,
                facts.architecture == "x86_64" ? .yes : .no,
                facts.architecture,
                remedy: "Only processes of x86-64 are carried; use such a machine."
            ),
            Requirement(
                "base page size",
                .both,
                facts.pageBytes == 4096 ? .yes : .no,
                "\(facts.pageBytes) bytes",
                remedy: "Only base pages of 4096 bytes are carried; use another kernel."
            ),
            Requirement(
                "OpenSSL 3",
                .both,
                major >= 3 ? .yes : .no,
                version,
                remedy: "Install OpenSSL 3.0 or newer (Debian: libssl3)."
            ),
            Requirement(
                "extended state (XSAVE)",
                .both,
                facts.extendedState & 3 == 3 ? .yes : .no,
                facts.extendedState == 0 ? "no XSAVE" : extendedState(facts.extendedState),
                remedy: "Use a machine whose processor has XSAVE; a virtual machine may have to be told to show it."
            ),
        ]
    }

    /// Names of the components of XCR0; the destination must have all that the process uses.
    private static func extendedState(_ components: UInt64) -> String {
        let names: [(bits: UInt64, name: String)] = [
            (1 << 0, "x87"), (1 << 1, "SSE"), (1 << 2, "AVX"), (0b11 << 3, "MPX"), (0b111 << 5, "AVX-512"),
            (1 << 9, "PKRU"), (0b11 << 17, "AMX"),
        ]
        return names.filter { components & $0.bits == $0.bits }.map(\.name).joined(separator: " ")
    }

    private static func userfaultfd(_ facts: MachineFacts) -> [Requirement] {
        let ways = [
            ("system call", facts.userfaultfdBySystemCall), ("/dev/userfaultfd", facts.userfaultfdByDevice),
            ("user-mode-only system call", facts.userfaultfdUserModeOnly),
        ]
        let working = ways.filter { $0.1.works }.map(\.0)
        let isFull = facts.userfaultfdBySystemCall.works || facts.userfaultfdByDevice.works
        let isAbsent = facts.userfaultfdUserModeOnly == .failed(.noSystemCall)
        let detail =
            working.isEmpty
            ? ways.map { "\($0.0): \(words($0.1))" }.joined(separator: ", ")
            : "by " + working.joined(separator: ", ")
        let remedy =
            isAbsent
            ? "Boot a kernel with CONFIG_USERFAULTFD." + seccompHint(facts)
            : "Run as root, or let your user open /dev/userfaultfd (deploy/udev), or as root: "
                + "sysctl vm.unprivileged_userfaultfd=1." + seccompHint(facts)
        return [
            Requirement("userfaultfd", .restore, isFull ? .yes : isAbsent ? .no : .denied, detail, remedy: remedy),
            ask(
                "userfaultfd events",
                .restore,
                facts.userfaultfdEvents,
                "fork, remap, remove, unmap",
                ifDenied: "Run as root (CAP_SYS_PTRACE).",
                ifAbsent: "Linux 4.11 or newer"
            ),
        ] + userfaultfdFeatures(facts.userfaultfdFeatures)
    }

    private static func userfaultfdFeatures(_ features: UInt64?) -> [Requirement] {
        // Bit numbers of UFFD_FEATURE_, see linux/userfaultfd.h.
        let wanted: [(name: String, bit: UInt64, need: Requirement.Need, since: String, use: String)] = [
            ("thread ids in faults", 8, .restore, "4.14", "UFFD_FEATURE_THREAD_ID"),
            ("missing pages of shared memory", 5, .restore, "4.11", "UFFD_FEATURE_MISSING_SHMEM"),
            ("poisoned pages", 14, .optional, "6.6", "UFFD_FEATURE_POISON; lets a lost source end in SIGBUS"),
            ("write-protect", 0, .optional, "5.7", "UFFD_FEATURE_PAGEFAULT_FLAG_WP; for pre-copy"),
            ("asynchronous write-protect", 15, .optional, "6.7", "UFFD_FEATURE_WP_ASYNC; for pre-copy"),
        ]
        return wanted.map { feature in
            let isThere = features.map { $0 >> feature.bit & 1 == 1 } ?? false
            return Requirement(
                feature.name,
                feature.need,
                isThere ? .yes : features == nil ? .denied : .no,
                features == nil ? "\(feature.use); not known without a userfaultfd" : feature.use,
                remedy: features == nil ? "See userfaultfd." : "Boot Linux \(feature.since) or newer."
            )
        }
    }

    private static func reading(_ facts: MachineFacts) -> [Requirement] {
        [
            ask(
                "PAGEMAP_SCAN",
                .pageServer,
                facts.pagemapScan,
                "finds pages without reading them",
                ifDenied: nil,
                ifAbsent: "Linux 6.7 or newer"
            ),
            ask(
                "process_vm_readv",
                .pageServer,
                facts.processMemory,
                "reads pages of a frozen process",
                ifDenied: "Run as root (CAP_SYS_PTRACE)." + seccompHint(facts),
                ifAbsent: "a kernel with CONFIG_CROSS_MEMORY_ATTACH"
            ),
            ask(
                "kcmp",
                .pageServer,
                facts.kcmp,
                "tells which descriptors share an open file",
                ifDenied: "Run as root (CAP_SYS_PTRACE)." + seccompHint(facts),
                ifAbsent: "a kernel with CONFIG_KCMP"
            ),
        ]
    }

    private static func tracing(_ facts: MachineFacts) -> [Requirement] {
        let scope = facts.ptraceScope.map { "kernel.yama.ptrace_scope is \($0)" } ?? "no Yama"
        let scopeRemedy =
            facts.ptraceScope == 3
            ? "kernel.yama.ptrace_scope is 3, which only a reboot changes: boot with a lower value."
            : "Run as root (CAP_SYS_PTRACE)." + seccompHint(facts)
        return [
            ask("ptrace", .both, facts.trace, scope, ifDenied: scopeRemedy, ifAbsent: "a kernel that allows ptrace"),
            ask(
                "rseq of another thread",
                .pageServer,
                facts.rseqConfiguration,
                "PTRACE_GET_RSEQ_CONFIGURATION",
                ifDenied: scopeRemedy,
                ifAbsent: "Linux 5.13 or newer with CONFIG_RSEQ"
            ),
            ask(
                "pidfd_getfd",
                .both,
                facts.pidfdGetfd,
                "takes descriptors out of a process",
                ifDenied: "Run as root (CAP_SYS_PTRACE)." + seccompHint(facts),
                ifAbsent: "Linux 5.6 or newer"
            ),
        ]
    }

    /// What the tracking of writes (pre-copy) can use, and what it has to work around.
    private static func tracker(_ facts: MachineFacts) -> [Requirement] {
        [
            ask(
                "soft-dirty bits",
                .optional,
                facts.softDirty,
                "for --tracker soft-dirty",
                ifDenied: nil,
                ifAbsent: "a kernel with CONFIG_MEM_SOFT_DIRTY, or use write-protect"
            )
        ] + KernelBug.allCases.map { bug($0, facts) }
    }

    private static func bug(_ bug: KernelBug, _ facts: MachineFacts) -> Requirement {
        let name =
            switch bug {
            case .hiddenHugeHole: "scans show discarded huge pages"
            case .hiddenEmptyPage: "scans show discarded pages"
            }
        switch facts.kernelBugs[bug] {
        case .fixed: return Requirement(name, .optional, .yes, "tried on a page of its own")
        case .present:
            return Requirement(
                name,
                .optional,
                .no,
                "this kernel hides them; tracking takes a longer way round",
                remedy: "Boot a stable kernel of August 2026 or later."
            )
        case .notApplicable(let reason) where facts.userfaultfdFeatures != nil:
            return Requirement(name, .optional, .yes, "not applicable: \(reason)")
        case .notApplicable, nil:
            return Requirement(
                name,
                .optional,
                .denied,
                "not known without a userfaultfd",
                remedy: "See userfaultfd."
            )
        }
    }

    private static func building(_ facts: MachineFacts) -> [Requirement] {
        let asRoot = "Run as root (CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE)." + seccompHint(facts)
        return [
            ask(
                "clone3 with set_tid",
                .restore,
                facts.setTID,
                "gives threads their ids",
                ifDenied: asRoot,
                ifAbsent: "Linux 5.5 or newer"
            ),
            ask(
                "PR_SET_MM_MAP",
                .restore,
                facts.memoryMap,
                "sets heap, stack and argument addresses",
                ifDenied: asRoot,
                ifAbsent: "a kernel with CONFIG_CHECKPOINT_RESTORE"
            ),
            ask(
                "pid and mount namespaces",
                .optional,
                facts.pidNamespace,
                "for --new-pid-namespace",
                ifDenied: "Run as root (CAP_SYS_ADMIN)." + seccompHint(facts),
                ifAbsent: "a kernel with CONFIG_PID_NS"
            ),
            ask(
                "time namespaces",
                .optional,
                facts.timeNamespace,
                "for a destination whose clocks are behind",
                ifDenied: "Run as root (CAP_SYS_ADMIN)." + seccompHint(facts),
                ifAbsent: "a kernel with CONFIG_TIME_NS"
            ),
            ask(
                "timer ids",
                .optional,
                facts.timerRestoreIDs,
                "PR_TIMER_CREATE_RESTORE_IDS, for POSIX timers",
                ifDenied: nil,
                ifAbsent: "Linux 6.15 or newer"
            ),
            ask(
                "guard pages",
                .optional,
                facts.guardPages,
                "MADV_GUARD_INSTALL, for processes that use them",
                ifDenied: nil,
                ifAbsent: "Linux 6.13 or newer"
            ),
        ]
    }

    private static func permissions(_ facts: MachineFacts) -> [Requirement] {
        // Numbers of CAP_, see linux/capability.h.
        let pageServer: [(String, UInt64)] = [("CAP_SYS_PTRACE", 19)]
        let restore: [(String, UInt64)] = [
            ("CAP_KILL", 5), ("CAP_SETGID", 6), ("CAP_SETUID", 7), ("CAP_SETPCAP", 8), ("CAP_SYS_PTRACE", 19),
            ("CAP_SYS_ADMIN", 21),
        ]
        // Root of a container often lacks these two.
        let special: [(String, UInt64)] = [("CAP_SYS_NICE", 23), ("CAP_SYS_RESOURCE", 24)]
        let rows = [
            ("page-server", Requirement.Need.pageServer, pageServer), ("restore", .restore, restore),
            ("limits and priorities", .optional, special),
        ]
        return rows.map { purpose, need, wanted in
            let missing = wanted.filter { facts.capabilities >> $0.1 & 1 == 0 }.map(\.0)
            return Requirement(
                "permissions for \(purpose)",
                need,
                missing.isEmpty ? .yes : .denied,
                missing.isEmpty ? "all there" : "missing: " + missing.joined(separator: " "),
                remedy: "Run as root, or with these capabilities."
            )
        }
    }

    // MARK: Words

    /// Judges the answer to one question.
    ///
    /// - Parameters:
    ///   - ifDenied: the remedy for a missing permission; nil when no permission plays a part.
    ///   - ifAbsent: the kernel to boot when this one cannot do it.
    private static func ask(
        _ name: String,
        _ need: Requirement.Need,
        _ answer: Answer,
        _ use: String,
        ifDenied: String?,
        ifAbsent: String
    ) -> Requirement {
        guard case .failed(let errno) = answer else { return Requirement(name, need, .yes, use) }
        let detail = "\(use): \(words(answer))"
        if let ifDenied, errno == .perm || errno == .access {
            return Requirement(name, need, .denied, detail, remedy: ifDenied)
        }
        return Requirement(name, need, .no, detail, remedy: "Boot \(ifAbsent).")
    }

    private static func words(_ answer: Answer) -> String {
        switch answer {
        case .works: "works"
        case .failed(.perm), .failed(.access): "not permitted"
        case .failed(.noSystemCall), .failed(.notSupported): "not in this kernel"
        case .failed(.noEntry): "not there"
        case .failed(let errno): errno.description
        }
    }

    private static func seccompHint(_ facts: MachineFacts) -> String {
        facts.hasSeccompFilter
            ? " A seccomp filter watches this program (a container?); it must allow this call as well." : ""
    }
}
