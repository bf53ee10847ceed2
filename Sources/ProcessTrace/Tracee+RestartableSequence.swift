// SPDX-License-Identifier: Apache-2.0
internal import Paging

extension Tracee {
    /// Moves a thread that was stopped inside of an rseq(2) critical section to the abort handler of the section.
    ///
    /// The kernel does so when such a thread is preempted, and would do it here; but it looks at the registers when the thread
    /// next enters user code, which is an injected call: there it finds the thread outside of the section and forgets that it
    /// was in one. The section would go on as if nothing had happened.
    func leaveRestartableSequence(_ memory: ProcessMemory) throws(TraceError) {
        var registers = try registers()
        // Not in user code, not in a section.
        guard registers.systemCall == nil, let configuration = try rseqConfiguration() else { return }
        guard let section = CriticalSection(of: configuration, memory) else { return }
        let offset = registers.instruction.rawValue &- section.start
        guard offset < section.length, section.hasSignature(configuration.signature, memory) else { return }
        registers.instruction = VirtualAddress(section.abort)
        try setRegisters(registers)
    }
}

/// `struct rseq_cs`.
private struct CriticalSection {
    let start: UInt64
    let length: UInt64
    let abort: UInt64

    /// Offset of the pointer to it in `struct rseq`.
    private static let pointerOffset: UInt64 = 8

    /// The section that a thread says it is in; nil for none.
    init?(of configuration: RseqConfiguration, _ memory: ProcessMemory) {
        let place = VirtualAddress(configuration.address &+ Self.pointerOffset)
        guard let pointer = memory.readWithoutWaiting(place, count: 8), Self.word(pointer, 0) != 0,
            let bytes = memory.readWithoutWaiting(VirtualAddress(Self.word(pointer, 0)), count: 32)
        else { return nil }
        start = Self.word(bytes, 8)
        length = Self.word(bytes, 16)
        abort = Self.word(bytes, 24)
    }

    /// Whether the word before the abort handler is the one that the thread registered, without which the kernel kills it.
    func hasSignature(_ signature: UInt32, _ memory: ProcessMemory) -> Bool {
        guard let bytes = memory.readWithoutWaiting(VirtualAddress(abort &- 4), count: 4) else { return false }
        return bytes.reversed().reduce(0) { $0 << 8 | UInt32($1) } == signature
    }

    private static func word(_ bytes: [UInt8], _ offset: Int) -> UInt64 {
        bytes[offset..<offset + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}
