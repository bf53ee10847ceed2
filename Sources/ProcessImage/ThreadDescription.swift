// SPDX-License-Identifier: Apache-2.0
//
// Fields are named as in proc(5) and in the calls that set them; those that need more words have them.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// One thread.
public struct ThreadDescription: ArchivedValue, Equatable {
    /// As the process sees it.
    public var tid: Int32 = 0
    /// `/proc/PID/task/TID/comm`, at most 15 bytes.
    public var name: [UInt8] = []
    /// `struct user_regs_struct` as PTRACE_GETREGS shows it (27 words on x86-64), fs_base and gs_base among them, unaltered.
    public var registers: [UInt64] = []
    /// NT_X86_XSTATE, the whole XSAVE area.
    public var extendedState: [UInt8] = []
    public var signalMask: UInt64 = 0
    /// `siginfo_t` (128 bytes each) of the thread's own queue, in order.
    public var pendingSignals: [SignalInformation] = []
    public var alternateStack = AlternateStack()
    public var rseqAddress: UInt64 = 0
    public var rseqSize: UInt32 = 0
    public var rseqSignature: UInt32 = 0
    public var robustListHead: UInt64 = 0
    public var robustListLength: UInt64 = 0
    /// PR_GET_TID_ADDRESS.
    public var clearChildTID: UInt64 = 0
    public var credentials = Credentials()
    public var scheduling = Scheduling()
    /// PR_GET_TIMERSLACK in nanoseconds.
    public var timerSlack: UInt64 = 0
    public var interruptedCall: InterruptedCall?

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&tid)
        try archive.field(&name)
        try archive.field(&registers)
        try archive.field(&extendedState)
        try archive.field(&signalMask)
        try archive.field(&pendingSignals)
        try archive.field(&alternateStack)
        try archive.field(&rseqAddress)
        try archive.field(&rseqSize)
        try archive.field(&rseqSignature)
        try archive.field(&robustListHead)
        try archive.field(&robustListLength)
        try archive.field(&clearChildTID)
        try archive.field(&credentials)
        try archive.field(&scheduling)
        try archive.field(&timerSlack)
        try archive.field(&interruptedCall)
    }
}

/// A system call that the freeze interrupted and that has to go on as if nothing had happened.
public struct InterruptedCall: ArchivedValue, Equatable {
    public enum Continuation: UInt8, Sendable {
        /// -ERESTARTSYS, -ERESTARTNOINTR, -ERESTARTNOHAND: the kernel of the destination restarts it from the registers.
        case byKernel = 0
        /// -ERESTART_RESTARTBLOCK: the destination makes the call again with ``InterruptedCall/timeLeft`` and interrupts it, so that
        /// its own restart block holds the deadline.
        case restartBlock = 1
        /// -EINTR that only the freeze caused (epoll_wait, sigtimedwait, semtimedop, recv with a time-out): the instruction is
        /// executed again.
        case again = 2
    }

    public var continuation = Continuation.byKernel
    public var number: UInt64 = 0
    /// Nanoseconds left at the freeze; -1 when the call has no relative time-out.
    public var timeLeft: Int64 = -1

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&continuation)
        try archive.field(&number)
        try archive.field(&timeLeft)
    }
}

/// `stack_t` of sigaltstack(2).
public struct AlternateStack: ArchivedValue, Equatable {
    public var address: UInt64 = 0
    public var flags: Int32 = 0
    public var size: UInt64 = 0

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&address)
        try archive.field(&flags)
        try archive.field(&size)
    }
}

/// `siginfo_t`, raw.
public struct SignalInformation: ArchivedValue, Equatable {
    /// 128 bytes.
    public var bytes: [UInt8] = []

    public init() {}

    /// si_signo.
    public var number: Int32 {
        Self.word(bytes, at: 0)
    }

    /// si_code.
    public var code: Int32 {
        Self.word(bytes, at: 8)
    }

    private static func word(_ bytes: [UInt8], at offset: Int) -> Int32 {
        guard bytes.count >= offset + 4 else { return 0 }
        return (0..<4).reduce(0) { $0 | Int32(truncatingIfNeeded: UInt32(bytes[offset + $1]) << (8 * UInt32($1))) }
    }

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&bytes)
        guard bytes.count == 128 else { throw ProcessImageError("a siginfo of \(bytes.count) bytes") }
    }
}

/// Credentials of a thread, credentials(7), capabilities(7).
public struct Credentials: ArchivedValue, Equatable {
    public var realUser: UInt32 = 0
    public var effectiveUser: UInt32 = 0
    public var savedUser: UInt32 = 0
    public var fileSystemUser: UInt32 = 0
    public var realGroup: UInt32 = 0
    public var effectiveGroup: UInt32 = 0
    public var savedGroup: UInt32 = 0
    public var fileSystemGroup: UInt32 = 0
    public var groups: [UInt32] = []
    public var inheritableCapabilities: UInt64 = 0
    public var permittedCapabilities: UInt64 = 0
    public var effectiveCapabilities: UInt64 = 0
    public var boundingCapabilities: UInt64 = 0
    public var ambientCapabilities: UInt64 = 0
    /// PR_GET_SECUREBITS.
    public var secureBits: UInt32 = 0
    public var noNewPrivileges = false

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&realUser)
        try archive.field(&effectiveUser)
        try archive.field(&savedUser)
        try archive.field(&fileSystemUser)
        try archive.field(&realGroup)
        try archive.field(&effectiveGroup)
        try archive.field(&savedGroup)
        try archive.field(&fileSystemGroup)
        try archive.field(&groups)
        try archive.field(&inheritableCapabilities)
        try archive.field(&permittedCapabilities)
        try archive.field(&effectiveCapabilities)
        try archive.field(&boundingCapabilities)
        try archive.field(&ambientCapabilities)
        try archive.field(&secureBits)
        try archive.field(&noNewPrivileges)
    }
}

/// sched(7), setpriority(2), ioprio_set(2), sched_setaffinity(2) of a thread.
public struct Scheduling: ArchivedValue, Equatable {
    /// `struct sched_attr` as sched_getattr(2) fills it (raw, its own size in the first word).
    public var attributes: [UInt8] = []
    /// `cpu_set_t` of sched_getaffinity(2), as long as the kernel returned it.
    public var affinity: [UInt8] = []
    /// ioprio_get(2).
    public var ioPriority: Int32 = 0

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&attributes)
        try archive.field(&affinity)
        try archive.field(&ioPriority)
    }
}
