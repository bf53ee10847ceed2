// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessTrace

/// Makes system calls in threads of a process that is being built, through the stub that it was born with.
///
/// Every signal but SIGTRAP is blocked in the threads meanwhile. The process must not be single-stepped or resumed by others.
struct StubRunner {
    /// Where the code of ``StubCode`` lies.
    let code: UInt64
    /// Memory of the process.
    let memory: ProcessMemory
    /// The arena of the leader.
    let arena: StubArena

    /// Address of a `syscall` instruction.
    var systemCallAddress: UInt64 { code + StubCode.systemCallOffset }

    /// An empty batch in the leader's arena.
    func makeBatch() -> StubBatch {
        StubBatch(arena: arena)
    }

    /// Makes all calls of a batch.
    ///
    /// - Returns: the results in order.
    @discardableResult
    func run(_ batch: StubBatch, on tracee: Tracee) throws(RestoreError) -> [Int64] {
        guard !batch.calls.isEmpty else { return [] }
        try start(batch, on: tracee)
        return try collect(batch, on: tracee)
    }

    /// Makes the calls of several threads at the same time, each in the arena of its batch.
    @discardableResult
    func run(_ batches: [(batch: StubBatch, tracee: Tracee)]) throws(RestoreError) -> [[Int64]] {
        for entry in batches where !entry.batch.calls.isEmpty { try start(entry.batch, on: entry.tracee) }
        var results: [[Int64]] = []
        var failure: RestoreError?
        for entry in batches {
            // All of them have to stop before anything else is done, whatever goes wrong with one.
            do throws(RestoreError) {
                results.append(entry.batch.calls.isEmpty ? [] : try collect(entry.batch, on: entry.tracee))
            } catch {
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
        return results
    }

    /// Makes the calls that `add` adds for each item, in as few batches as fit.
    ///
    /// - Returns: all results, in order.
    @discardableResult
    func run<Item>(
        over items: [Item],
        on tracee: Tracee,
        in arena: StubArena? = nil,
        callsPerItem: Int = 8,
        bytesPerItem: Int = 8192,
        _ add: (Item, inout StubBatch) throws(RestoreError) -> Void
    ) throws(RestoreError) -> [Int64] {
        var results: [Int64] = []
        let arena = arena ?? self.arena
        var batch = StubBatch(arena: arena)
        for item in items {
            if !batch.hasRoom(calls: callsPerItem, bytes: bytesPerItem) {
                results += try run(batch, on: tracee)
                batch = StubBatch(arena: arena)
            }
            try add(item, &batch)
        }
        results += try run(batch, on: tracee)
        return results
    }

    /// Makes one call and leaves the thread in the stop behind it: neither the code nor the table of the stub is needed afterwards.
    @discardableResult
    func runSingle(
        _ number: Int32,
        _ arguments: [UInt64],
        for purpose: String,
        on tracee: Tracee
    ) throws(RestoreError) -> Int64 {
        var words = try registerWords(of: tracee)
        for (index, argument) in zip(RegisterIndex.arguments, arguments) { words[index] = argument }
        words[RegisterIndex.rax] = UInt64(number)
        words[RegisterIndex.rip] = systemCallAddress
        words[RegisterIndex.originalRAX] = .max
        try setRegisterWords(words, of: tracee)
        for _ in 0..<2 {
            try RestoreError.trace(purpose) { () throws(TraceError) in try tracee.resumeToSystemCall() }
            try expect(.systemCall, of: tracee, purpose)
        }
        let result = Int64(bitPattern: try registerWords(of: tracee)[RegisterIndex.rax])
        if let errno = Self.errno(result) { throw Self.failure(purpose, number, errno) }
        return result
    }

    /// The general registers.
    func registerWords(of tracee: Tracee) throws(RestoreError) -> [UInt64] {
        try RestoreError.trace("read registers") { () throws(TraceError) in try tracee.registers().words }
    }

    /// Sets the general registers.
    func setRegisterWords(_ words: [UInt64], of tracee: Tracee) throws(RestoreError) {
        guard let registers = Registers(words: words) else {
            throw RestoreError(.badDescription, "the description has \(words.count) registers for a thread")
        }
        try RestoreError.trace("set registers") { () throws(TraceError) in try tracee.setRegisters(registers) }
    }

    /// Waits for one kind of stop.
    func expect(_ wanted: Stop, of tracee: Tracee, _ purpose: String) throws(RestoreError) {
        let stop = try RestoreError.trace(purpose) { () throws(TraceError) in try tracee.waitForStop() }
        guard stop != wanted else { return }
        guard stop.isStopped else {
            throw RestoreError(.ended, "cannot \(purpose): the new process ended (\(stop))")
        }
        throw RestoreError(.systemCall, "cannot \(purpose): the new process stopped otherwise (\(stop))")
    }

    private func start(_ batch: StubBatch, on tracee: Tracee) throws(RestoreError) {
        try write(batch.table, to: batch.arena.table)
        if !batch.data.isEmpty { try write(batch.data, to: batch.arena.data) }
        var words = try registerWords(of: tracee)
        words[RegisterIndex.rbx] = batch.arena.table
        words[RegisterIndex.rbp] = UInt64(batch.calls.count)
        words[RegisterIndex.rip] = code
        words[RegisterIndex.originalRAX] = .max
        // Nothing of ours uses a stack; sigaltstack(2) only asks whether the thread stands on the one that is set.
        words[RegisterIndex.rsp] = 0
        try setRegisterWords(words, of: tracee)
        try RestoreError.trace("resume the new process") { () throws(TraceError) in try tracee.resume() }
    }

    private func collect(_ batch: StubBatch, on tracee: Tracee) throws(RestoreError) -> [Int64] {
        let purpose = batch.calls[0].purpose
        try expect(.signal(SIGTRAP), of: tracee, purpose)
        let end = try registerWords(of: tracee)[RegisterIndex.rip]
        guard end == code + StubCode.endOffset else {
            throw RestoreError(.systemCall, "cannot \(purpose): the new process stopped at 0x\(String(end, radix: 16))")
        }
        let table = try read(batch.arena.table, count: batch.calls.count * StubCode.entryBytes)
        let results = batch.calls.indices.map { index in
            Int64(bitPattern: Self.word(table, at: index * StubCode.entryBytes + StubCode.resultWord * 8))
        }
        for (call, result) in zip(batch.calls, results) { try Self.check(call, result) }
        return results
    }

    /// A word of bytes, little-endian.
    static func word(_ bytes: [UInt8], at offset: Int) -> UInt64 {
        var word: UInt64 = 0
        for index in 0..<8 { word |= UInt64(bytes[offset + index]) << (8 * index) }
        return word
    }

    private static func check(_ call: StubBatch.Call, _ result: Int64) throws(RestoreError) {
        switch call.expectation {
        case .anything: return
        case .success:
            if let errno = errno(result) { throw failure(call.purpose, call.number, errno) }
        case .value(let wanted):
            if let errno = errno(result) { throw failure(call.purpose, call.number, errno) }
            guard UInt64(bitPattern: result) == wanted else {
                throw RestoreError(.systemCall, "cannot \(call.purpose): got \(result) and not \(wanted)")
            }
        }
    }

    private static func errno(_ result: Int64) -> Errno? {
        (-4095..<0).contains(result) ? Errno(rawValue: Int32(-result)) : nil
    }

    private static func failure(_ purpose: String, _ number: Int32, _ errno: Errno) -> RestoreError {
        RestoreError(
            RestoreError.code(of: errno),
            "cannot \(purpose)",
            cause: SystemCallError("system call \(number) in the new process", errno)
        )
    }

    /// Bytes of the process.
    func read(_ address: UInt64, count: Int) throws(RestoreError) -> [UInt8] {
        try RestoreError.trace("read memory of the new process") { () throws(TraceError) in
            try memory.read(VirtualAddress(address), count: count)
        }
    }

    /// Writes bytes into the process.
    func write(_ bytes: [UInt8], to address: UInt64) throws(RestoreError) {
        try RestoreError.trace("write memory of the new process") { () throws(TraceError) in
            try memory.write(bytes, to: VirtualAddress(address))
        }
    }
}
