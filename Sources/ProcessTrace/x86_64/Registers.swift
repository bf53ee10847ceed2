// SPDX-License-Identifier: Apache-2.0
#if arch(x86_64)
internal import CLinux
public import Paging

/// The general registers of a stopped thread, `struct user_regs_struct`.
public struct Registers: Hashable, Sendable {
    /// Words in the kernel's struct.
    public static let wordCount = 27

    var raw: clinux_registers

    init(_ raw: clinux_registers) {
        self.raw = raw
    }

    /// Takes the words in the order of `struct user_regs_struct`; nil unless there are ``wordCount``.
    public init?(words: [UInt64]) {
        guard words.count == Self.wordCount else { return nil }
        raw = clinux_registers(
            r15: words[0],
            r14: words[1],
            r13: words[2],
            r12: words[3],
            rbp: words[4],
            rbx: words[5],
            r11: words[6],
            r10: words[7],
            r9: words[8],
            r8: words[9],
            rax: words[10],
            rcx: words[11],
            rdx: words[12],
            rsi: words[13],
            rdi: words[14],
            orig_rax: words[15],
            rip: words[16],
            cs: words[17],
            eflags: words[18],
            rsp: words[19],
            ss: words[20],
            fs_base: words[21],
            gs_base: words[22],
            ds: words[23],
            es: words[24],
            fs: words[25],
            gs: words[26]
        )
    }

    /// The words in the order of `struct user_regs_struct`.
    public var words: [UInt64] {
        [
            raw.r15, raw.r14, raw.r13, raw.r12, raw.rbp, raw.rbx, raw.r11, raw.r10, raw.r9, raw.r8, raw.rax, raw.rcx,
            raw.rdx, raw.rsi, raw.rdi, raw.orig_rax, raw.rip, raw.cs, raw.eflags, raw.rsp, raw.ss, raw.fs_base,
            raw.gs_base, raw.ds, raw.es, raw.fs, raw.gs,
        ]
    }

    /// Compares all words.
    public static func == (left: Self, right: Self) -> Bool {
        left.words == right.words
    }

    /// Hashes all words.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(words)
    }

    /// rip.
    public var instruction: VirtualAddress {
        get { VirtualAddress(raw.rip) }
        set { raw.rip = newValue.rawValue }
    }

    /// rsp.
    public var stack: VirtualAddress {
        get { VirtualAddress(raw.rsp) }
        set { raw.rsp = newValue.rawValue }
    }

    /// fs_base, the thread pointer.
    public var threadPointer: VirtualAddress {
        get { VirtualAddress(raw.fs_base) }
        set { raw.fs_base = newValue.rawValue }
    }

    /// Whether the thread runs 64-bit code (cs is the 64-bit user code segment).
    public var is64Bit: Bool {
        raw.cs == 0x33
    }

    /// The number of the system call that the stop interrupted (orig_rax), nil for a stop in user code.
    public var systemCall: Int64? {
        get { Int64(bitPattern: raw.orig_rax) < 0 ? nil : Int64(bitPattern: raw.orig_rax) }
        set { raw.orig_rax = UInt64(bitPattern: newValue ?? -1) }
    }

    /// The result of a system call (rax).
    public var result: Int64 {
        get { Int64(bitPattern: raw.rax) }
        set { raw.rax = UInt64(bitPattern: newValue) }
    }

    /// The six arguments of the interrupted system call.
    public var arguments: [UInt64] {
        [raw.rdi, raw.rsi, raw.rdx, raw.r10, raw.r8, raw.r9]
    }

    /// Sets the registers so that the `syscall` at `instruction` makes a call; no restart logic applies to it.
    mutating func prepare(call: InjectedCall, at instruction: VirtualAddress) {
        raw.rax = call.number
        raw.rdi = call.arguments.0
        raw.rsi = call.arguments.1
        raw.rdx = call.arguments.2
        raw.r10 = call.arguments.3
        raw.r8 = call.arguments.4
        raw.r9 = call.arguments.5
        raw.rip = instruction.rawValue
        systemCall = nil
    }

    /// Makes the thread execute the interrupted system call again from the beginning when it goes on.
    ///
    /// For calls that show -EINTR in the stop (epoll_wait, sigtimedwait, semtimedop, recv with a time-out) and that no signal
    /// handler interrupts; nothing else in the registers has changed. Does nothing in user code.
    public mutating func rewind() {
        guard systemCall != nil else { return }
        raw.rax = raw.orig_rax
        raw.rip &-= UInt64(BatchCode.systemCallInstruction.count)
        systemCall = nil
    }

    /// Makes the thread go on with `restart_syscall(2)`, what the kernel does by itself for -ERESTART_RESTARTBLOCK.
    public mutating func rewindToRestartBlock() {
        guard systemCall != nil else { return }
        raw.rax = 219
        raw.rip &-= UInt64(BatchCode.systemCallInstruction.count)
        systemCall = nil
    }
}

/// What the kernel leaves in the result of an interrupted system call; never seen by user code.
public enum RestartCode {
    /// -ERESTARTSYS.
    public static let restartSystemCall: Int64 = -512
    /// -ERESTARTNOINTR.
    public static let restartNoInterrupt: Int64 = -513
    /// -ERESTARTNOHAND.
    public static let restartNoHandler: Int64 = -514
    /// -ERESTART_RESTARTBLOCK.
    public static let restartBlock: Int64 = -516
}
#endif
