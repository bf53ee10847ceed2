// SPDX-License-Identifier: Apache-2.0

/// What is carried: the other half of the one table that documentation and examination share.
public struct CarriedObject: Hashable, Sendable {
    /// What kind of thing it is.
    public let name: String
    /// How it is recognised and read on the source.
    public let saved: String
    /// How it comes into being on the destination.
    public let restored: String

    init(_ name: String, _ saved: String, _ restored: String) {
        self.name = name
        self.saved = saved
        self.restored = restored
    }
}

/// The one table of what is carried and what is refused.
public enum CarriedObjects {
    /// A part of the table.
    public enum Area: String, CaseIterable, Sendable {
        case memory = "Memory"
        case threads = "Threads"
        case calls = "Interrupted system calls"
        case process = "Process"
        case descriptors = "Descriptors"
        case clocks = "Clocks"
    }

    /// The rows of one part.
    public static func rows(of area: Area) -> [CarriedObject] {
        switch area {
        case .memory: memory
        case .threads: threads
        case .calls: calls
        case .process: process
        case .descriptors: descriptors
        case .clocks: clocks
        }
    }

    /// A part as a table in Markdown, as the documentation has it.
    public static func markdown(of area: Area) -> String {
        let head = ["| What | Read on the source | Rebuilt on the destination |", "|---|---|---|"]
        let lines = rows(of: area).map { line([$0.name, $0.saved, $0.restored]) }
        return (head + lines).joined(separator: "\n")
    }

    /// All refused kinds as a table in Markdown, as the documentation has it.
    public static var refusedMarkdown: String {
        let head = ["| What | Recognised by | Why | Remedy |", "|---|---|---|---|"]
        let lines = RefusedObject.allCases.map { line([$0.name, $0.recognition, $0.reason, $0.remedy]) }
        return (head + lines).joined(separator: "\n")
    }

    /// A line of a table; what Markdown would take for emphasis or a link is plain text.
    private static func line(_ cells: [String]) -> String {
        let special: Set<Character> = ["*", "[", "]", "|", "<"]
        let escaped = cells.map { cell in
            cell.reduce(into: "") { text, character in
                text += special.contains(character) ? "\\\(character)" : String(character)
            }
        }
        return "| " + escaped.joined(separator: " | ") + " |"
    }

    private static let memory = [
        CarriedObject(
            "private anonymous memory: heap, stacks, arenas, MAP_NORESERVE, MAP_GROWSDOWN",
            "PAGEMAP_SCAN tells which pages exist; process_vm_readv, /proc/PID/mem for what is not readable",
            "mapped, registered with userfaultfd, pages on first touch and in the background"
        ),
        CarriedObject("never touched and zero pages", "not read", "zeros, without a byte on the wire"),
        CarriedObject(
            "PROT_NONE and write-only memory",
            "its pages by /proc/PID/mem",
            "mapped with its protection, lazy"
        ),
        CarriedObject("guard pages (MADV_GUARD_INSTALL)", "PAGEMAP_SCAN", "installed again before the process runs"),
        CarriedObject(
            "locked memory (mlock, mlockall)",
            "VmFlags lo",
            "its pages before the process runs, then locked"
        ),
        CarriedObject(
            "advice: DONTFORK, WIPEONFORK, DONTDUMP, HUGEPAGE, NOHUGEPAGE, SEQUENTIAL, RANDOM, MERGEABLE",
            "VmFlags in /proc/PID/smaps",
            "madvise(2)"
        ),
        CarriedObject("names of anonymous memory", "[anon:…] in /proc/PID/maps", "PR_SET_VMA_ANON_NAME"),
        CarriedObject(
            "private mappings of files",
            "written pages (PAGEMAP_SCAN without PAGE_IS_FILE)",
            "the file of the same path, after build id, digest or size and time are compared; written pages before it runs"
        ),
        CarriedObject("shared mappings of files", "path and offset", "the same file mapped again"),
        CarriedObject(
            "shared anonymous memory, and memfds without a descriptor, each page mapped once",
            "SEEK_DATA tells which pages exist; read(2), by /proc/PID/map_files",
            "one object, registered with a userfaultfd of its own, pages on first touch and in the background"
        ),
        CarriedObject(
            "other shared memory: with a descriptor, a second or a private mapping, locked, sealed against writing, "
                + "smaller than 64 KiB, contents that are not mapped, the 65th object and more, restore --track",
            "contents of the object by /proc/PID/map_files",
            "one object, its contents before the process runs"
        ),
        CarriedObject("vDSO and vvar", "their addresses, the bytes of the vDSO", "the destination's own, moved there"),
        CarriedObject(
            "brk, argument, environment and code borders, auxiliary vector, executable",
            "/proc/PID/stat, auxv and exe",
            "PR_SET_MM_MAP; argument and environment pages before it runs"
        ),
    ]

    private static let threads = [
        CarriedObject("thread ids", "/proc/PID/task, NSpid", "clone3(2) set_tid"),
        CarriedObject("names", "/proc/PID/task/TID/comm", "PR_SET_NAME"),
        CarriedObject("general registers, TLS bases", "PTRACE_GETREGS", "PTRACE_SETREGS"),
        CarriedObject("x87, SSE, AVX, AVX-512 and protection keys", "NT_X86_XSTATE", "PTRACE_SETREGSET"),
        CarriedObject("rseq area", "PTRACE_GET_RSEQ_CONFIGURATION", "rseq(2)"),
        CarriedObject("robust futex list", "get_robust_list(2)", "set_robust_list(2)"),
        CarriedObject("clear_child_tid", "PR_GET_TID_ADDRESS", "set_tid_address(2)"),
        CarriedObject("alternate signal stack", "sigaltstack(2)", "sigaltstack(2)"),
        CarriedObject("signal mask", "PTRACE_GETSIGMASK", "PTRACE_SETSIGMASK"),
        CarriedObject(
            "pending and queued signals",
            "PTRACE_PEEKSIGINFO, both queues, in order",
            "rt_tgsigqueueinfo(2)"
        ),
        CarriedObject(
            "scheduling policy, nice value, I/O priority, affinity",
            "sched_getattr(2), ioprio_get(2), sched_getaffinity(2)",
            "the same calls that set, where the CPUs exist"
        ),
        CarriedObject("credentials and capabilities", "/proc/PID/task/TID/status", "setresuid(2), capset(2)"),
        CarriedObject("timer slack", "/proc/TID/timerslack_ns", "PR_SET_TIMERSLACK"),
    ]

    private static let calls = [
        CarriedObject(
            "read, wait on a pipe, futex, flock (-ERESTARTSYS), select, pause, sigsuspend (-ERESTARTNOHAND)",
            "registers",
            "made again from the registers"
        ),
        CarriedObject(
            "nanosleep, poll, futex with a time-out (-ERESTART_RESTARTBLOCK)",
            "the call and the time left of it",
            "made again with the time left"
        ),
        CarriedObject(
            "epoll_wait, sigtimedwait, semtimedop (-EINTR)",
            "registers, pending signals",
            "made again unless a signal handler is about to run; no EINTR is seen, here or there"
        ),
    ]

    private static let process = [
        CarriedObject("signal actions", "rt_sigaction(2) for each signal", "rt_sigaction(2)"),
        CarriedObject("interval timers", "getitimer(2)", "setitimer(2) with the time left"),
        CarriedObject(
            "POSIX timers, with their ids",
            "/proc/PID/timers, timer_gettime(2)",
            "timer_create(2) with PR_TIMER_CREATE_RESTORE_IDS"
        ),
        CarriedObject("limits", "prlimit(2)", "prlimit(2)"),
        CarriedObject("umask, working directory", "/proc/PID/status and cwd", "umask(2), chdir(2)"),
        CarriedObject("personality", "/proc/PID/personality", "personality(2)"),
        CarriedObject(
            "dumpable, securebits, no_new_privs, parent-death signal, child subreaper, THP switch",
            "prctl(2), /proc/PID/status",
            "prctl(2)"
        ),
        CarriedObject("oom_score_adj, coredump_filter", "/proc/PID", "/proc/PID"),
        CarriedObject("process group and session", "NSpgid and NSsid", "as before in a pid namespace of its own"),
        CarriedObject("stopped by a signal (state T)", "the group stop", "stopped again"),
    ]

    private static let descriptors = [
        CarriedObject(
            "regular files and directories, O_PATH too",
            "path, offset, status flags, SIGIO owner; kcmp(2) finds what dup(2) shares",
            "open(2), lseek(2), fcntl(2), dup(2)"
        ),
        CarriedObject("/dev/null, zero, full, random, urandom", "device number", "open(2)"),
        CarriedObject(
            "pipes and FIFOs whose ends are all inside of the process",
            "size; contents by tee(2), which takes nothing out",
            "pipe2(2) or open(2), filled again"
        ),
        CarriedObject("eventfd", "eventfd-count and -semaphore in fdinfo", "eventfd2(2)"),
        CarriedObject("epoll", "tfd lines in fdinfo; kcmp(2) finds what is watched", "epoll_ctl(2)"),
        CarriedObject("timerfd", "clock, time left and period in fdinfo", "timerfd_settime(2)"),
        CarriedObject("signalfd", "sigmask in fdinfo", "signalfd4(2)"),
        CarriedObject("memfd", "name, size, seals, contents", "memfd_create(2), its contents before the process runs"),
        CarriedObject(
            "terminals, and pipes to other programs on descriptors 0, 1, 2",
            "which standard stream it is",
            "the restorer's own stream"
        ),
        CarriedObject("close-on-exec", "flags in fdinfo", "fcntl(2)"),
    ]

    private static let clocks = [
        CarriedObject(
            "CLOCK_MONOTONIC and CLOCK_BOOTTIME never go backwards",
            "both clocks at the freeze",
            "a time namespace when the destination's are behind"
        )
    ]
}
