// SPDX-License-Identifier: Apache-2.0
#if arch(x86_64)

/// What the registers of a stopped thread show of the system call that the stop interrupted.
///
/// Facts of Linux on x86-64: a call that a stop interrupts shows the kernel's own -512 … -516, which the kernel turns into a restart
/// when the thread goes on, or -EINTR when it cannot restart it. Outside of a call orig_rax is -1.
public struct StoppedCall: Hashable, Sendable {
    /// Words of `struct user_regs_struct`.
    public enum Register: Int, Sendable {
        case r10 = 7
        case r8 = 9
        case rax = 10
        case rdx = 12
        case rsi = 13
        case rdi = 14
        case origRax = 15
        case rip = 16
        case cs = 17
        case rsp = 19
        case fsBase = 21
    }

    /// Numbers of the calls that need more than the kernel's own restart.
    enum Number {
        static let poll: UInt64 = 7
        static let select: UInt64 = 23
        static let nanosleep: UInt64 = 35
        static let semop: UInt64 = 65
        static let sigtimedwait: UInt64 = 128
        static let futex: UInt64 = 202
        static let restartSyscall: UInt64 = 219
        static let semtimedop: UInt64 = 220
        static let clockNanosleep: UInt64 = 230
        static let epollWait: UInt64 = 232
        static let pselect6: UInt64 = 270
        static let ppoll: UInt64 = 271
        static let epollPwait: UInt64 = 281
        static let epollPwait2: UInt64 = 441
    }

    /// Where the time-out of a call is found.
    enum Timeout: Hashable {
        /// None, or an absolute time.
        case none
        /// Nanoseconds from the beginning of the call.
        case relative(Int64)
        /// A `struct timespec` with the time from the beginning of the call.
        case timespec(UInt64)
        /// A `struct timespec` in which the kernel has put what was left when it was interrupted.
        case remaining(UInt64)
    }

    /// How the call goes on.
    public enum Continuation: Hashable, Sendable {
        /// The thread was in its own code, or its call is done.
        case none
        /// The kernel makes the call again from the registers.
        case byKernel
        /// The kernel goes on by restart_syscall(2) with what it remembers of the call.
        case restartBlock
        /// The freeze alone ended it: the instruction is executed again.
        case again
    }

    /// As the thread stopped.
    public let registers: [UInt64]

    /// Looks at the 27 words of PTRACE_GETREGS.
    public init(registers: [UInt64]) {
        self.registers = registers
    }

    /// The value of a register; 0 when the array is too short.
    public subscript(_ register: Register) -> UInt64 {
        registers.indices.contains(register.rawValue) ? registers[register.rawValue] : 0
    }

    /// The number of the call as the registers have it.
    public var number: UInt64 { self[.origRax] }

    /// Whether the thread runs 64-bit code (CS of Linux on x86-64).
    public var is64Bit: Bool { self[.cs] & 0xffff == 0x33 }

    /// Calls that end with -EINTR although nothing but the stop happened, and that may be made again: they have taken nothing yet.
    private static let repeatable: Set<UInt64> = [
        Number.epollWait, Number.epollPwait, Number.epollPwait2, Number.sigtimedwait, Number.semop, Number.semtimedop,
        Number.select, Number.pselect6, Number.ppoll,
    ]

    /// Whether the call ends with an -EINTR that may be the doing of the stop alone.
    var isEndedByStop: Bool {
        Int64(bitPattern: self[.rax]) == -4 && Self.repeatable.contains(number)
    }

    /// Whether the call had been interrupted before: restart_syscall(2) hides which one it is.
    var isRestarted: Bool { number == Number.restartSyscall }

    /// How the call goes on.
    ///
    /// - Parameters:
    ///   - handlerPending: whether a signal with a handler is about to be delivered to the thread: then -EINTR is its due.
    ///   - groupStopped: whether the thread had been stopped by a signal before the freeze, which ended the call already.
    func continuation(handlerPending: Bool, groupStopped: Bool) -> Continuation {
        guard Int64(bitPattern: self[.origRax]) >= 0 else { return .none }
        switch Int64(bitPattern: self[.rax]) {
        case RestartCode.restartSystemCall, RestartCode.restartNoInterrupt, RestartCode.restartNoHandler:
            return .byKernel
        case RestartCode.restartBlock: return .restartBlock
        default: return isEndedByStop && !handlerPending && !groupStopped ? .again : .none
        }
    }

    /// The call behind restart_syscall(2), told by the kernel function in which the thread slept (`/proc/PID/task/TID/wchan`).
    ///
    /// - Returns: nil when that does not tell it.
    func restartedNumber(sleepingIn function: String) -> UInt64? {
        if function.contains("poll") { return Number.poll }
        if function.contains("futex") { return Number.futex }
        // The functions of a restarted nanosleep are inlined into, or left out below, the entry of system calls (kernel 6.18).
        guard function.contains("nanosleep") || function.contains("nsleep") || function.hasPrefix("do_syscall") else {
            return nil
        }
        // clock_nanosleep(2) has a clock id where nanosleep(2) has a pointer; ids of CPU clocks are negative numbers.
        let clock = Int64(Int32(truncatingIfNeeded: self[.rdi]))
        return self[.rdi] < 4096 || clock < 0 && clock == Int64(bitPattern: self[.rdi])
            ? Number.clockNanosleep : Number.nanosleep
    }

    /// Where the time-out of call `number` is, given the arguments in the registers.
    func timeout(of number: UInt64) -> Timeout {
        switch number {
        case Number.nanosleep:
            self[.rsi] != 0 ? .remaining(self[.rsi]) : .timespec(self[.rdi])
        case Number.clockNanosleep:
            self[.rsi] & 1 != 0 ? .none : self[.r10] != 0 ? .remaining(self[.r10]) : .timespec(self[.rdx])
        case Number.poll: Self.milliseconds(self[.rdx])
        case Number.epollWait, Number.epollPwait: Self.milliseconds(self[.r10])
        case Number.futex:
            // FUTEX_WAIT counts from its beginning, all other operations have an absolute time.
            self[.rsi] & 0x7f == 0 && self[.r10] != 0 ? .timespec(self[.r10]) : .none
        case Number.epollPwait2, Number.semtimedop: self[.r10] != 0 ? .timespec(self[.r10]) : .none
        case Number.sigtimedwait: self[.rdx] != 0 ? .timespec(self[.rdx]) : .none
        default: .none
        }
    }

    private static func milliseconds(_ register: UInt64) -> Timeout {
        let value = Int32(truncatingIfNeeded: register)
        return value < 0 ? .none : .relative(Int64(value) * 1_000_000)
    }

    /// The registers with which the thread executes the instruction of the call again.
    ///
    /// - Parameter timeLeft: nanoseconds; for epoll_wait(2), whose time-out is a number in a register, the rest of it.
    func rewound(timeLeft: Int64) -> [UInt64] {
        var result = registers
        // orig_rax -1 keeps the kernel from applying a restart of its own.
        result[Register.rip.rawValue] &-= UInt64(BatchCode.systemCallInstruction.count)
        result[Register.rax.rawValue] = number
        result[Register.origRax.rawValue] = .max
        let hasRegister = number == Number.epollWait || number == Number.epollPwait
        if hasRegister && timeLeft >= 0 {
            result[Register.r10.rawValue] = UInt64((timeLeft + 999_999) / 1_000_000)
        }
        return result
    }
}
#endif
