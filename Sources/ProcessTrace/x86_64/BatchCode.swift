// SPDX-License-Identifier: Apache-2.0
#if arch(x86_64)
internal import CLinux
internal import Paging

/// The machine code that makes all calls of a table; position independent, needs no stack.
///
/// rbx walks over entries of ``entryBytes``, r12 is their end. Both survive `syscall`, which destroys rcx and r11 only.
enum BatchCode {
    /// The instruction `syscall`.
    static let systemCallInstruction: [UInt8] = [0x0f, 0x05]

    /// Bytes of a table entry: number, six arguments, result.
    static let entryBytes = 64

    /// The number in an entry that copies the word at argument 1 to argument 0 instead of making a call.
    static let moveNumber = UInt64.max

    /// The loop; it ends with `int3`.
    static let bytes: [UInt8] = [
        0x4c, 0x39, 0xe3,  //  0: cmp rbx, r12
        0x73, 0x39,  //  3: jae done
        0x48, 0x8b, 0x03,  //  5: mov rax, [rbx]
        0x48, 0x8b, 0x7b, 0x08,  //  8: mov rdi, [rbx + 8]
        0x48, 0x8b, 0x73, 0x10,  // 12: mov rsi, [rbx + 16]
        0x48, 0x8b, 0x53, 0x18,  // 16: mov rdx, [rbx + 24]
        0x4c, 0x8b, 0x53, 0x20,  // 20: mov r10, [rbx + 32]
        0x4c, 0x8b, 0x43, 0x28,  // 24: mov r8, [rbx + 40]
        0x4c, 0x8b, 0x4b, 0x30,  // 28: mov r9, [rbx + 48]
        0x48, 0x83, 0xf8, 0xff,  // 32: cmp rax, -1
        0x75, 0x08,  // 36: jne call
        0x48, 0x8b, 0x06,  // 38: mov rax, [rsi]
        0x48, 0x89, 0x07,  // 41: mov [rdi], rax
        0xeb, 0x06,  // 44: jmp next
        0x0f, 0x05,  // 46: call: syscall
        0x48, 0x89, 0x43, 0x38,  // 48: mov [rbx + 56], rax
        0x48, 0x83, 0xc3, 0x40,  // 52: next: add rbx, 64
        0xeb, 0xc6,  // 56: jmp loop
        0x90, 0x90, 0x90, 0x90,  // 58: padding, so that the end is easy to see
        0xcc,  // 62: done: int3
    ]

    /// Offset of the `syscall` in the code, for calls that are made one by one.
    static let systemCallOffset: UInt64 = 46

    /// Registers that start the loop.
    static func start(_ registers: Registers, code: VirtualAddress, table: AddressRange) -> Registers {
        var registers = registers
        registers.raw.rbx = table.lowerBound.rawValue
        registers.raw.r12 = table.upperBound.rawValue
        registers.instruction = code
        registers.systemCall = nil
        return registers
    }

    /// Where rip stands when the loop is through.
    static func end(code: VirtualAddress) -> VirtualAddress {
        VirtualAddress(code.rawValue + UInt64(bytes.count))
    }
}
#endif
