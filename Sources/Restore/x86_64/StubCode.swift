// SPDX-License-Identifier: Apache-2.0
#if arch(x86_64)
internal import Paging
internal import ProcessTrace

/// The machine code in the stub of a process that is being built: makes all calls of a table and stops.
///
/// rbx walks over entries of ``entryBytes`` (number, six arguments, result), rbp counts them down; both survive `syscall`. The code
/// needs no stack and no memory but the table, so it runs while the address space around it comes and goes.
enum StubCode {
    /// Bytes of a table entry.
    static let entryBytes = 64
    /// Word of the result in a table entry.
    static let resultWord = 7

    /// The code.
    static let bytes: [UInt8] = [
        0x48, 0x8b, 0x03,  //  0: next: mov rax, [rbx]
        0x48, 0x8b, 0x7b, 0x08,  //  3: mov rdi, [rbx + 8]
        0x48, 0x8b, 0x73, 0x10,  //  7: mov rsi, [rbx + 16]
        0x48, 0x8b, 0x53, 0x18,  // 11: mov rdx, [rbx + 24]
        0x4c, 0x8b, 0x53, 0x20,  // 15: mov r10, [rbx + 32]
        0x4c, 0x8b, 0x43, 0x28,  // 19: mov r8, [rbx + 40]
        0x4c, 0x8b, 0x4b, 0x30,  // 23: mov r9, [rbx + 48]
        0x0f, 0x05,  // 27: syscall
        0x48, 0x89, 0x43, 0x38,  // 29: mov [rbx + 56], rax
        0x48, 0x83, 0xc3, 0x40,  // 33: add rbx, 64
        0x48, 0xff, 0xcd,  // 37: dec rbp
        0x75, 0xd6,  // 40: jnz next
        0xcc,  // 42: int3
    ]

    /// Offset of the `syscall`.
    static let systemCallOffset: UInt64 = 27
    /// Where the instruction pointer stands when the table is through.
    static let endOffset = UInt64(bytes.count)
    /// Bytes of the `syscall` instruction.
    static let systemCallBytes: UInt64 = 2
}

/// Positions of registers in ``ThreadDescription/registers``, the order of `struct user_regs_struct`.
enum RegisterIndex {
    static let rbp = 4
    static let rbx = 5
    static let r10 = 7
    static let r9 = 8
    static let r8 = 9
    static let rax = 10
    static let rdx = 12
    static let rsi = 13
    static let rdi = 14
    static let originalRAX = 15
    static let rip = 16
    static let rsp = 19
    /// The arguments of a system call, in order.
    static let arguments = [rdi, rsi, rdx, r10, r8, r9]
    /// All of them.
    static let count = 27
}
#endif
