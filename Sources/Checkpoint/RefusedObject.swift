// SPDX-License-Identifier: Apache-2.0

/// What cannot be carried: the refusing half of the one table that documentation and examination share.
///
/// A raw value is the word by which tests and messages of other programs can tell the rows apart; it does not change.
public enum RefusedObject: String, CaseIterable, Sendable {
    // Relations to other processes.
    case children
    case tracer
    case sharedMemorySpace = "shared-memory-space"
    case sharedDescriptorTable = "shared-descriptor-table"
    case threadDescriptorTable = "thread-descriptor-table"
    case namespace
    case changedRoot = "chroot"
    // Threads and modes of the CPU.
    case seccomp
    case thirtyTwoBit = "32-bit"
    case shadowStack = "shadow-stack"
    case systemCallDispatch = "syscall-user-dispatch"
    case processControl = "process-control"
    case parentDeathSignal = "thread-parent-death-signal"
    case uninterruptibleCall = "unknown-interrupted-call"
    // Descriptors.
    case userfaultfd
    case ioUring = "io_uring"
    case socket
    case fileNotification = "file-notification"
    case performanceCounter = "perf-event"
    case bpf
    case kvm
    case pidfd
    case anonymousInode = "anonymous-inode"
    case namespaceDescriptor = "namespace-descriptor"
    case device
    case sharedPipe = "shared-pipe"
    case sharedFile = "shared-file"
    case deletedFile = "deleted-file"
    case replacedFile = "replaced-file"
    case fileLock = "file-lock"
    case lease
    case messageQueue = "message-queue"
    case epollWatch = "epoll-watch"
    // Memory.
    case foreignUserfaultfd = "userfaultfd-registration"
    case asynchronousIO = "aio"
    case deviceMapping = "device-mapping"
    case hugePages = "hugetlb"
    case secretMemory = "secretmem"
    case systemVMemory = "sysv-shm"
    case sharedMemory = "shared-memory"
    case sealedMapping = "sealed-mapping"
    case droppableMapping = "droppable-mapping"
    case unknownMapping = "unknown-mapping"
    // Names.
    case pathEncoding = "path-encoding"
}

extension RefusedObject {
    /// The column "what": the name of the kind.
    public var name: String { row.name }

    /// The column "recognised by".
    public var recognition: String { row.recognition }

    /// Why it cannot be carried.
    public var reason: String { row.reason }

    /// What a user can do about it.
    public var remedy: String { row.remedy }

    private struct Row {
        let name: String
        let recognition: String
        let reason: String
        let remedy: String

        init(_ name: String, by recognition: String, _ reason: String, remedy: String) {
            self.name = name
            self.recognition = recognition
            self.reason = reason
            self.remedy = remedy
        }
    }

    private var row: Row {
        relationRow ?? threadRow ?? descriptorRow ?? fileRow ?? memoryRow
            ?? Row(
                "paths that are not UTF-8",
                by: "bytes of a path in /proc",
                "the path is not UTF-8",
                remedy: "rename the file"
            )
    }

    private var relationRow: Row? {
        switch self {
        case .children:
            Row(
                "child processes",
                by: "a process whose parent it is, zombies too; waitid(2) when frozen",
                "Thaw moves one process, and its child would lose its parent",
                remedy: "wait until the child has ended and was waited for"
            )
        case .tracer:
            Row(
                "another tracer",
                by: "TracerPid in /proc/PID/status",
                "a process has one tracer at a time",
                remedy: "detach the debugger or tracer first"
            )
        case .sharedMemorySpace:
            Row(
                "address space shared with another process",
                by: "kcmp(2) KCMP_VM with the parent",
                "it runs in the memory of its parent (vfork, CLONE_VM)",
                remedy: "wait until it has called execve"
            )
        case .sharedDescriptorTable:
            Row(
                "descriptor table shared with another process",
                by: "kcmp(2) KCMP_FILES with the parent",
                "another process opens and closes descriptors in its table",
                remedy: "start it without CLONE_FILES"
            )
        case .threadDescriptorTable:
            Row(
                "threads with a descriptor table or directory of their own",
                by: "kcmp(2) KCMP_FILES and KCMP_FS among the threads",
                "its threads do not share one descriptor table, working directory and umask",
                remedy: "start its threads without unshare(CLONE_FILES) and unshare(CLONE_FS)"
            )
        case .namespace:
            Row(
                "foreign namespaces",
                by: "/proc/PID/ns/* differ from those of Thaw; a mount namespace may differ in /proc alone",
                "paths, addresses or users mean something else there",
                remedy: "run thaw inside the same namespaces, for example with nsenter"
            )
        case .changedRoot:
            Row(
                "changed root directory",
                by: "/proc/PID/root",
                "its paths begin at another root directory",
                remedy: "run thaw with the same root directory"
            )
        default: nil
        }
    }

    private var threadRow: Row? {
        switch self {
        case .seccomp:
            Row(
                "seccomp filters",
                by: "Seccomp in /proc/PID/status of each thread",
                "its filter of system calls cannot be read and put back",
                remedy: "start it without the seccomp sandbox"
            )
        case .thirtyTwoBit:
            Row(
                "32-bit code",
                by: "ELF class of the program, CS of each thread",
                "it runs 32-bit code",
                remedy: "use a 64-bit build"
            )
        case .shadowStack:
            Row(
                "shadow stack",
                by: "x86_Thread_features in /proc/PID/status, VmFlags ss",
                "its shadow stack cannot be rebuilt",
                remedy: "start it with GLIBC_TUNABLES=glibc.cpu.hwcaps=-SHSTK"
            )
        case .systemCallDispatch:
            Row(
                "syscall user dispatch",
                by: "PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG",
                "its system calls are redirected to itself",
                remedy: "start it without the emulator that uses it"
            )
        case .processControl:
            Row(
                "unusual prctl(2) settings",
                by: "PR_GET_TSC, PR_GET_MDWE and PR_GET_IO_FLUSHER when frozen",
                "the setting cannot be put back",
                remedy: "start it without the setting"
            )
        case .parentDeathSignal:
            Row(
                "parent-death signal of a thread",
                by: "PR_GET_PDEATHSIG when frozen, on threads other than the leader",
                "only the leader's parent-death signal is carried",
                remedy: "set it in the main thread"
            )
        case .uninterruptibleCall:
            Row(
                "system calls that cannot be taken up again",
                by: "what the stopped thread shows of an unknown call",
                "the call was interrupted and it is not known how to take it up again",
                remedy: "try again when the thread is elsewhere"
            )
        default: nil
        }
    }

    private var descriptorRow: Row? {
        switch self {
        case .userfaultfd:
            Row(
                "own userfaultfd",
                by: "a descriptor anon_inode:[userfaultfd], in the tables of its children and threads too",
                "it handles page faults itself, and a mapping can belong to one userfaultfd only",
                remedy: "close the userfaultfd before the move"
            )
        case .ioUring:
            Row(
                "io_uring",
                by: "a descriptor anon_inode:[io_uring]",
                "requests in flight and registered buffers cannot be read",
                remedy: "let it use another event loop (for libuv UV_USE_IO_URING=0)"
            )
        case .socket:
            Row(
                "sockets of any kind",
                by: "a descriptor socket:[…]",
                "a connection cannot be moved",
                remedy: "close it before the move, or start the program with its standard streams on files"
            )
        case .fileNotification:
            Row(
                "inotify and fanotify",
                by: "a descriptor anon_inode:inotify or [fanotify]",
                "its watches and queued events are not carried",
                remedy: "close it before the move"
            )
        case .performanceCounter:
            Row(
                "perf events",
                by: "a descriptor anon_inode:[perf_event]",
                "counters belong to the machine",
                remedy: "end profiling before the move"
            )
        case .bpf:
            Row(
                "BPF programs, maps and links",
                by: "a descriptor anon_inode:bpf-…, bpf_link or btf",
                "objects of BPF belong to the kernel of the machine",
                remedy: "close it before the move"
            )
        case .kvm:
            Row(
                "KVM",
                by: "a descriptor anon_inode:kvm-… or /dev/kvm",
                "a virtual machine is not carried",
                remedy: "use the migration of the virtual machine monitor"
            )
        case .pidfd:
            Row(
                "pidfd",
                by: "a descriptor anon_inode:[pidfd] or pidfd:[…]",
                "it names a process of this machine",
                remedy: "close it before the move"
            )
        case .anonymousInode:
            Row(
                "any other anon_inode",
                by: "a descriptor anon_inode:… that no other row names",
                "Thaw does not know this kind of descriptor",
                remedy: "close it before the move"
            )
        case .namespaceDescriptor:
            Row(
                "descriptors of namespaces",
                by: "a descriptor mnt:[…], net:[…] and the like",
                "it names a namespace of this machine",
                remedy: "close it before the move"
            )
        case .device:
            Row(
                "devices",
                by:
                    "a device file other than null, zero, full, random, urandom, and a terminal that no standard stream is",
                "a device belongs to the machine",
                remedy: "close it before the move"
            )
        default: nil
        }
    }

    private var fileRow: Row? {
        switch self {
        case .sharedPipe:
            Row(
                "pipes and FIFOs to other programs",
                by: "the same pipe in /proc/*/fd of another process, other than on descriptors 0, 1, 2",
                "the program at its other end stays behind",
                remedy: "connect the programs by standard streams or files"
            )
        case .sharedFile:
            Row(
                "open files shared with another process",
                by: "kcmp(2) KCMP_FILE with the descriptors of other processes",
                "another process shares this open file, its offset or its counter",
                remedy: "end the other process, or close it there"
            )
        case .deletedFile:
            Row(
                "deleted files",
                by: "no name is left (st_nlink 0) of an open or mapped file, or of the working directory",
                "the file has been deleted, so the destination cannot open it",
                remedy: "restart the program that keeps it open (after an upgrade), or close it"
            )
        case .replacedFile:
            Row(
                "replaced files",
                by: "the path leads to another file than the open or mapped one, or to none",
                "another file has taken its path, or it cannot be reached by it",
                remedy: "restart the program that keeps the old file open"
            )
        case .fileLock:
            Row(
                "file locks",
                by: "lock: lines in /proc/PID/fdinfo",
                "the lock would be free for a moment",
                remedy: "release the lock before the move"
            )
        case .lease:
            Row(
                "leases",
                by: "F_GETLEASE, lock: lines in /proc/PID/fdinfo",
                "a lease would be lost",
                remedy: "release the lease before the move"
            )
        case .messageQueue:
            Row(
                "POSIX message queues",
                by: "the file system of the descriptor",
                "its queued messages are not carried",
                remedy: "close it before the move"
            )
        case .epollWatch:
            Row(
                "epoll watches of closed descriptors",
                by: "a tfd: line in /proc/PID/fdinfo that no open descriptor of the process matches",
                "what is watched is open in another process only",
                remedy: "close the epoll instance before the move"
            )
        default: nil
        }
    }

    private var memoryRow: Row? {
        switch self {
        case .foreignUserfaultfd:
            Row(
                "memory registered with a userfaultfd",
                by: "VmFlags um, uw or ui in /proc/PID/smaps; EBUSY from a registration that is tried when frozen",
                "another program handles its page faults, or it is itself being restored",
                remedy: "wait until it is resident, end the restore --track that stays with it, or let its page "
                    + "fault handler unregister the range"
            )
        case .asynchronousIO:
            Row(
                "AIO contexts",
                by: "a mapping /[aio]",
                "requests of io_submit(2) in flight cannot be read",
                remedy: "let it use another way of I/O"
            )
        case .deviceMapping:
            Row(
                "device mappings",
                by: "VmFlags io, pf or mm, or a mapped device file",
                "the memory belongs to a device",
                remedy: "close the device before the move"
            )
        case .hugePages:
            Row(
                "hugetlb memory",
                by: "VmFlags ht",
                "huge pages of a pool are not carried yet",
                remedy: "let it use transparent huge pages"
            )
        case .secretMemory:
            Row(
                "memfd_secret memory",
                by: "a mapping or descriptor /secretmem",
                "nobody but the process can read it",
                remedy: "start it without secret memory"
            )
        case .systemVMemory:
            Row(
                "System V shared memory",
                by: "a mapping /SYSV…",
                "the segment belongs to its IPC namespace",
                remedy: "let it use memfd_create or shared anonymous memory"
            )
        case .sharedMemory:
            Row(
                "memory shared with another process",
                by: "the same shared anonymous memory or memfd in /proc/*/maps or /proc/*/fd of another process",
                "the other process stays behind",
                remedy: "end the other process first"
            )
        case .sealedMapping:
            Row(
                "sealed mappings",
                by: "VmFlags sl",
                "a mapping sealed by mseal(2) is not carried yet",
                remedy: "start it with GLIBC_TUNABLES=glibc.rtld.seal=0"
            )
        case .droppableMapping:
            Row(
                "droppable mappings",
                by: "VmFlags dp",
                "memory of MAP_DROPPABLE may vanish at any time and cannot be lazy",
                remedy: "start it without such memory"
            )
        case .unknownMapping:
            Row(
                "any other special mapping",
                by: "a mapping that is neither a file, nor anonymous, nor known by name",
                "Thaw does not know this kind of mapping",
                remedy: "unmap it before the move"
            )
        default: nil
        }
    }
}
