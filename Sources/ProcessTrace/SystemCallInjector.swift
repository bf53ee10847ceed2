// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
public import Paging

/// Makes system calls in stopped threads of another process, one by one.
///
/// After a call the registers and the signal mask are what they were. A call that sleeps must not be injected: it would
/// overwrite the restart block of the application's own interrupted call, which then returned EINTR.
public final class SystemCallInjector {
    /// The memory of the process.
    public let memory: ProcessMemory
    /// Address of a `syscall` instruction in the process.
    public let instruction: VirtualAddress
    /// Where batches run; nil while nothing is mapped for them.
    var area: BatchArea?

    /// All signals blocked; the kernel leaves SIGKILL and SIGSTOP out.
    static let allSignals = UInt64.max

    /// How often a call is made again that a stop of the whole process interrupted.
    private static let restartLimit = 100

    /// Uses the instruction at a known address.
    public init(memory: ProcessMemory, instruction: VirtualAddress) {
        self.memory = memory
        self.instruction = instruction
    }

    /// Finds an instruction in the vDSO or any other code of the process; nothing is written for it.
    public convenience init(memory: ProcessMemory) throws(TraceError) {
        self.init(memory: memory, instruction: try Self.findInstruction(memory))
    }

    private static func findInstruction(_ memory: ProcessMemory) throws(TraceError) -> VirtualAddress {
        let code = try ProcessMaps.read(memory.pid).filter {
            $0.isReadable && $0.isExecutable && $0.name != "[vsyscall]"
        }
        let vdsoFirst = code.filter { $0.name == "[vdso]" } + code.filter { $0.name != "[vdso]" }
        for mapping in vdsoFirst {
            let count = min(mapping.range.byteCount, 16 << 20)
            guard let bytes = try? memory.read(mapping.range.lowerBound, count: Int(count)) else { continue }
            for index in 0..<(bytes.count - 1) where bytes[index] == 0x0f && bytes[index + 1] == 0x05 {
                return VirtualAddress(mapping.range.lowerBound.rawValue + UInt64(index))
            }
        }
        throw TraceError(.inaccessible, "No system call instruction can be read in process \(memory.pid)")
    }

    /// Runs `body` with the calling thread on the CPU that the stopped thread ran on last.
    ///
    /// A call costs an order of magnitude less when neither side has to wake another CPU for it. Where the thread may not move
    /// there nothing changes.
    public static func near<Value>(
        _ tracee: Tracee,
        _ body: () throws(TraceError) -> Value
    ) throws(TraceError) -> Value {
        let processor = try ProcessStat.read(tracee.tid).processor
        // Pinning only makes it faster.
        let before = try? CPUAffinity.pin(to: processor)
        defer { try? before?.apply() }
        return try body()
    }

    /// Makes one call.
    ///
    /// - Returns: Its result, -errno for a failure.
    /// - Throws: ``TraceError`` when the thread ended or did something else than the call.
    public func call(_ number: Int32, _ arguments: UInt64..., on tracee: Tracee) throws(TraceError) -> Int64 {
        try perform(InjectedCall(number, arguments), on: tracee).result
    }

    /// Makes one call.
    public func call(_ call: InjectedCall, on tracee: Tracee) throws(TraceError) -> Int64 {
        try perform(call, on: tracee).result
    }

    /// Makes a call that creates a thread, and takes the thread.
    ///
    /// The process must be traced with ``TraceOptions/traceClone``.
    /// - Returns: The result in the process' own pid namespace (or -errno), and the new thread, stopped before its first
    ///   instruction.
    public func callCreatingThread(
        _ call: InjectedCall,
        on tracee: Tracee
    ) throws(TraceError) -> (result: Int64, thread: Tracee?) {
        let outcome = try perform(call, on: tracee)
        return (outcome.result, try outcome.thread.map { (tid) throws(TraceError) in try Tracee.adopt(tid) })
    }

    private func perform(_ call: InjectedCall, on tracee: Tracee) throws(TraceError) -> (result: Int64, thread: Int32?)
    {
        try preserving(tracee) { (registers) throws(TraceError) in
            try tracee.setSignalMask(Self.allSignals)
            for _ in 0..<Self.restartLimit {
                let outcome = try attempt(call, registers: registers, on: tracee)
                switch outcome.result {
                case RestartCode.restartSystemCall, RestartCode.restartNoInterrupt, RestartCode.restartNoHandler:
                    // A stop of the whole process (SIGSTOP cannot be blocked) was in the way. It has been taken by now.
                    continue
                case RestartCode.restartBlock:
                    return (-Int64(EINTR), outcome.thread)
                default:
                    return outcome
                }
            }
            return (-Int64(EINTR), nil)
        }
    }

    /// From the stop before the call to the stop behind it.
    private func attempt(
        _ call: InjectedCall,
        registers: Registers,
        on tracee: Tracee
    ) throws(TraceError) -> (result: Int64, thread: Int32?) {
        var prepared = registers
        prepared.prepare(call: call, at: instruction)
        try tracee.setRegisters(prepared)
        var thread: Int32?
        var systemCallStops = 0
        var signal: Int32 = 0
        while systemCallStops < 2 {
            try tracee.resumeToSystemCall(signal: signal)
            signal = 0
            switch try tracee.waitForStop() {
            case .systemCall: systemCallStops += 1
            case .event(clinux_PTRACE_EVENT_CLONE): thread = Int32(truncatingIfNeeded: try tracee.eventMessage())
            case .event, .interrupted, .groupStop: break
            case .signal(SIGSTOP): signal = SIGSTOP
            case .signal(let other): throw unexpected("signal \(other)", tracee)
            case .exited, .killed: throw gone(tracee)
            }
        }
        return (try tracee.registers().result, thread)
    }

    /// Runs `body` and puts registers and signal mask back, whatever happens.
    func preserving<Value>(
        _ tracee: Tracee,
        _ body: (Registers) throws(TraceError) -> Value
    ) throws(TraceError) -> Value {
        let registers = try tracee.registers()
        let mask = try tracee.signalMask()
        let value: Value
        do {
            value = try body(registers)
        } catch {
            // The first error tells more than one of these.
            try? tracee.setRegisters(registers)
            try? tracee.setSignalMask(mask)
            throw error
        }
        try tracee.setRegisters(registers)
        try tracee.setSignalMask(mask)
        return value
    }

    func unexpected(_ what: String, _ tracee: Tracee) -> TraceError {
        TraceError(.unexpected, "An injected call in thread \(tracee.tid) of process \(memory.pid) met \(what)")
    }

    func gone(_ tracee: Tracee) -> TraceError {
        TraceError(.gone, "Thread \(tracee.tid) of process \(memory.pid) ended during an injected call")
    }
}
