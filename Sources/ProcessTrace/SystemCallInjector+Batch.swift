// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
public import Paging

extension SystemCallInjector {
    /// Makes all calls of a batch in one thread, which costs one stop however many there are.
    ///
    /// Memory for it is mapped in the process and unmapped afterwards, unless ``openArea(byteCount:on:)`` has been called. While
    /// the batch runs all signals but SIGTRAP are blocked. A process that ignores SIGTRAP or has one pending gets the calls
    /// one by one.
    public func run(_ batch: CallBatch, on tracee: Tracee) throws(TraceError) -> BatchResults {
        try runOnAll([(tracee, batch)])[0]
    }

    /// Makes batches in several threads of the process at the same time.
    ///
    /// - Returns: The results in the order of the batches.
    public func runOnAll(_ work: [(tracee: Tracee, batch: CallBatch)]) throws(TraceError) -> [BatchResults] {
        guard let first = work.first?.tracee else { return [] }
        let needed = work.reduce(0) { $0 + PlacedBatch.byteCount(of: $1.batch) }
        let isOpen = area.map { UInt64(needed) <= $0.tables.byteCount } ?? false
        guard !isOpen else { return try runInArea(work) }
        guard area == nil else {
            throw TraceError(.unexpected, "A batch of \(needed) bytes does not fit into the area mapped for batches")
        }
        return try withArea(byteCount: needed, on: first) { () throws(TraceError) in try runInArea(work) }
    }

    /// Keeps one area mapped during `body`, so that several batches share it.
    public func withArea<Value>(
        byteCount: Int,
        on tracee: Tracee,
        _ body: () throws(TraceError) -> Value
    ) throws(TraceError) -> Value {
        try openArea(byteCount: byteCount, on: tracee)
        let value: Value
        do {
            value = try body()
        } catch {
            // The first error tells more; a thread that has ended took the mapping along or leaves it to the others.
            try? closeArea(on: tracee)
            throw error
        }
        try closeArea(on: tracee)
        return value
    }

    /// Maps memory for batches of together at most `byteCount` bytes; ``closeArea(on:)`` takes it away.
    public func openArea(byteCount: Int, on tracee: Tracee) throws(TraceError) {
        precondition(area == nil, "SystemCallInjector: an area is open already")
        let page = PageSize.base
        let tableBytes = (UInt64(max(byteCount, 1)) + page - 1) / page * page
        // Never writable and executable at once: PR_SET_MDWE forbids that. /proc/PID/mem writes code all the same.
        let start = try mapped(
            call(
                SYS_mmap,
                0,
                page + tableBytes,
                UInt64(PROT_READ | PROT_EXEC),
                UInt64(MAP_PRIVATE | MAP_ANONYMOUS),
                .max,
                0,
                on: tracee
            ),
            byteCount
        )
        let tables = AddressRange(VirtualAddress(start + page), VirtualAddress(start + page + tableBytes))
        area = BatchArea(code: VirtualAddress(start), tables: tables, isMapped: true)
        do {
            _ = try mapped(
                call(
                    SYS_mmap,
                    tables.lowerBound.rawValue,
                    tableBytes,
                    UInt64(PROT_READ | PROT_WRITE),
                    UInt64(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED),
                    .max,
                    0,
                    on: tracee
                ),
                byteCount
            )
            try memory.write(BatchCode.bytes, to: VirtualAddress(start))
        } catch {
            // The first error tells more.
            try? closeArea(on: tracee)
            throw error
        }
    }

    /// Unmaps what ``openArea(byteCount:on:)`` mapped.
    public func closeArea(on tracee: Tracee) throws(TraceError) {
        guard let area else { return }
        self.area = nil
        guard area.isMapped else { return }
        let length = area.tables.upperBound.rawValue - area.code.rawValue
        let result = try call(SYS_munmap, area.code.rawValue, length, on: tracee)
        try TraceError.check("munmap", result, "Cannot unmap the memory for injected calls in process \(memory.pid)")
    }

    /// Uses memory that the process has already: a page that can be executed, and pages that can be written.
    ///
    /// It stays until the process unmaps it; ``closeArea(on:)`` only forgets it.
    public func adoptArea(code: VirtualAddress, tables: AddressRange) throws(TraceError) {
        try memory.write(BatchCode.bytes, to: code)
        area = BatchArea(code: code, tables: tables, isMapped: false)
    }

    private func mapped(_ result: Int64, _ byteCount: Int) throws(TraceError) -> UInt64 {
        // Addresses of user space are positive.
        try UInt64(
            TraceError.check(
                "mmap",
                result,
                "Cannot map \(byteCount) bytes for injected calls in process \(memory.pid)"
            )
        )
    }

    // MARK: Running

    private func runInArea(_ work: [(tracee: Tracee, batch: CallBatch)]) throws(TraceError) -> [BatchResults] {
        guard let area else { throw TraceError(.unexpected, "No memory is mapped for injected calls") }
        var start = area.tables.lowerBound.rawValue
        var placed: [PlacedBatch] = []
        for (_, batch) in work {
            placed.append(PlacedBatch(batch, at: VirtualAddress(start)))
            start += UInt64(PlacedBatch.byteCount(of: batch))
        }
        for batch in placed where !batch.image.isEmpty {
            try memory.write(batch.image, to: batch.table.lowerBound)
        }
        try execute(zip(work, placed).map { ($0.tracee, $1) }, area)
        var results: [BatchResults] = []
        for batch in placed {
            results.append(batch.results(from: try memory.read(batch.table.lowerBound, count: batch.image.count)))
        }
        return results
    }

    private func execute(_ work: [(Tracee, PlacedBatch)], _ area: BatchArea) throws(TraceError) {
        let trapsAreFree = try !trapsAreIgnoredOrPending(work[0].0)
        var running: [BatchRun] = []
        var failure: TraceError?
        for (tracee, batch) in work where !batch.batch.calls.isEmpty {
            do {
                let pending = try tracee.pendingSignals(shared: false)
                if trapsAreFree, !Self.holdsTrap(pending) {
                    running.append(try BatchRun(batch, area, tracee))
                } else {
                    try runSingly(batch, on: tracee)
                }
            } catch {
                failure = failure ?? error
            }
        }
        // All that were started are waited for and put back, whatever happened to one of them.
        for run in running {
            do { try run.finish(self) } catch { failure = failure ?? error }
        }
        if let failure { throw failure }
    }

    /// The end of a batch is a SIGTRAP that the kernel forces: it would reset an ignored action for good, and be lost among
    /// others that are pending.
    private func trapsAreIgnoredOrPending(_ tracee: Tracee) throws(TraceError) -> Bool {
        let path = "/proc/\(memory.pid)/status"
        let key = "SigIgn:"
        guard let line = try ProcFile.read(path).lines.first(where: { $0.starts(with: key.utf8) }) else {
            throw TraceError(.malformed, "\"\(path)\" has no line \"\(key)\"")
        }
        var cursor = ByteCursor(line.dropFirst(key.utf8.count))
        cursor.skipBlanks()
        guard let ignored = cursor.hexadecimal() else { throw .malformed(path, line) }
        let pending = try tracee.pendingSignals(shared: true)
        return ignored & Self.trapBit != 0 || Self.holdsTrap(pending)
    }

    private static func holdsTrap(_ signals: [[UInt8]]) -> Bool {
        signals.contains { $0.first == UInt8(SIGTRAP) }
    }

    fileprivate static let trapBit: UInt64 = 1 << UInt64(SIGTRAP - 1)

    /// What the machine code does, from here.
    private func runSingly(_ placed: PlacedBatch, on tracee: Tracee) throws(TraceError) {
        var entry = placed.table.lowerBound.rawValue
        while entry < placed.table.upperBound.rawValue {
            let words = try memory.readWords(VirtualAddress(entry), count: 7)
            if words[0] == BatchCode.moveNumber {
                try memory.writeWord(memory.readWord(VirtualAddress(words[2])), to: VirtualAddress(words[1]))
            } else {
                let call = InjectedCall(Int32(truncatingIfNeeded: words[0]), Array(words[1...]))
                let result = try self.call(call, on: tracee)
                try memory.writeWord(UInt64(bitPattern: result), to: VirtualAddress(entry + 56))
            }
            entry += UInt64(BatchCode.entryBytes)
        }
    }
}

/// A batch that a thread has been started with.
private final class BatchRun {
    private let tracee: Tracee
    private let area: BatchArea
    private let registers: Registers
    private let mask: UInt64
    /// Foreign SIGTRAPs that came meanwhile.
    private var held: [[UInt8]] = []

    /// si_code of the SIGTRAP of an `int3`.
    private static let kernelCode: Int32 = 0x80

    /// Starts the thread; nothing remains changed when that fails.
    init(_ batch: PlacedBatch, _ area: BatchArea, _ tracee: Tracee) throws(TraceError) {
        self.tracee = tracee
        self.area = area
        registers = try tracee.registers()
        mask = try tracee.signalMask()
        do {
            try tracee.setSignalMask(SystemCallInjector.allSignals & ~SystemCallInjector.trapBit)
            try tracee.setRegisters(BatchCode.start(registers, code: area.code, table: batch.table))
            try tracee.resumeDirectly()
        } catch {
            // The first error tells more.
            try? putBack()
            throw error
        }
    }

    /// Waits for the end and puts registers and mask back.
    func finish(_ injector: SystemCallInjector) throws(TraceError) {
        do {
            try waitForEnd(injector)
            try tracee.setRegisters(registers)
            if !held.isEmpty { try requeue(injector) }
        } catch {
            // The first error tells more.
            try? putBack()
            throw error
        }
        try tracee.setSignalMask(mask)
    }

    private func putBack() throws(TraceError) {
        try tracee.setRegisters(registers)
        try tracee.setSignalMask(mask)
    }

    private func waitForEnd(_ injector: SystemCallInjector) throws(TraceError) {
        while true {
            switch try tracee.waitForStop() {
            case .signal(SIGTRAP):
                let signal = try tracee.signalInformation()
                let instruction = try tracee.registers().instruction
                if Self.code(of: signal) == Self.kernelCode, instruction == area.end { return }
                held.append(signal)
                try tracee.resumeDirectly()
            case .signal(SIGSTOP):
                try tracee.resumeDirectly(signal: SIGSTOP)
            case .interrupted, .groupStop, .event, .systemCall:
                try tracee.resumeDirectly()
            case .signal(let other):
                throw injector.unexpected("signal \(other)", tracee)
            case .exited, .killed:
                throw injector.gone(tracee)
            }
        }
    }

    /// Makes the thread send them to itself, as only a thread itself may with every si_code.
    private func requeue(_ injector: SystemCallInjector) throws(TraceError) {
        try tracee.setSignalMask(SystemCallInjector.allSignals)
        let place = area.tables.lowerBound
        let before = try injector.memory.read(place, count: Tracee.siginfoBytes)
        let pid = try UInt64(bitPattern: injector.call(SYS_getpid, on: tracee))
        let tid = try UInt64(bitPattern: injector.call(SYS_gettid, on: tracee))
        for signal in held {
            try injector.memory.write(signal, to: place)
            let result = try injector.call(
                SYS_rt_tgsigqueueinfo,
                pid,
                tid,
                UInt64(SIGTRAP),
                place.rawValue,
                on: tracee
            )
            try TraceError.check("rt_tgsigqueueinfo", result, "Cannot give thread \(tracee.tid) its SIGTRAP back")
        }
        try injector.memory.write(before, to: place)
    }

    private static func code(of signal: [UInt8]) -> Int32 {
        Int32(truncatingIfNeeded: signal[8..<12].reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) })
    }
}
