// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
public import LinuxSystem
public import Paging

/// The memory of another process.
///
/// Reading goes by `process_vm_readv(2)` and, where protection forbids that (PROT_NONE, write-only, execute-only), by
/// `/proc/PID/mem`. A page that is absent from a registered userfaultfd makes `process_vm_readv` wait for its handler.
public final class ProcessMemory: Sendable {
    /// Whose memory.
    public let pid: Int32
    private let mem: OwnedDescriptor

    /// Most bytes that are read by `/proc/PID/mem` before `process_vm_readv` is tried again.
    private static let fallbackBytes = 64 << 10

    /// Opens `/proc/PID/mem`.
    public init(pid: Int32) throws(TraceError) {
        self.pid = pid
        mem = try ProcFile.open("/proc/\(pid)/mem", O_RDWR)
    }

    /// Reads up to `count` bytes into a buffer.
    ///
    /// - Returns: The bytes read; less than `count` when an unmapped page, a guard page or a poisoned page comes there.
    /// - Throws: ``TraceError`` with code `gone` when the address space no longer exists.
    public func read(
        _ address: VirtualAddress,
        count: Int,
        into buffer: TransferBuffer,
        at offset: Int
    ) throws(TraceError) -> Int {
        // SAFETY: pointer(at:count:) checks the range; the buffer outlives the call.
        try unsafe read(
            address,
            into: UnsafeMutableRawBufferPointer(start: buffer.pointer(at: offset, count: count), count: count)
        )
    }

    /// Reads exactly `count` bytes.
    ///
    /// - Throws: ``TraceError`` with code `inaccessible` when not all of them can be read.
    public func read(_ address: VirtualAddress, count: Int) throws(TraceError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var outcome = Result<Int, TraceError>.success(0)
        // SAFETY: the kernel writes into the array's own storage, and only during the closure.
        unsafe bytes.withUnsafeMutableBytes { raw in
            do throws(TraceError) { outcome = .success(try unsafe read(address, into: raw)) } catch {
                outcome = .failure(error)
            }
        }
        let got = try outcome.get()
        guard got == count else { throw inaccessible(address, count, "read") }
        return bytes
    }

    /// Reads exactly `count` bytes, but never waits for a page that a userfaultfd has to bring; nil when they cannot be read so.
    public func readWithoutWaiting(_ address: VirtualAddress, count: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        // SAFETY: the kernel writes at most `count` bytes into the array's own storage, and only during the closure.
        let got = unsafe bytes.withUnsafeMutableBytes { raw -> Int in
            guard let start = raw.baseAddress else { return 0 }
            return unsafe readPastProtection(address.rawValue, start, count)
        }
        return got == count ? bytes : nil
    }

    /// Reads one 64-bit word.
    public func readWord(_ address: VirtualAddress) throws(TraceError) -> UInt64 {
        try readWords(address, count: 1)[0]
    }

    /// Reads 64-bit words.
    public func readWords(_ address: VirtualAddress, count: Int) throws(TraceError) -> [UInt64] {
        let bytes = try read(address, count: count * 8)
        // SAFETY: the bytes were counted; the machine is little-endian.
        return unsafe bytes.withUnsafeBytes { raw in
            (0..<count).map { unsafe raw.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self) }
        }
    }

    /// Writes one 64-bit word.
    public func writeWord(_ word: UInt64, to address: VirtualAddress) throws(TraceError) {
        try write((0..<8).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) }, to: address)
    }

    /// Writes bytes, past any protection.
    ///
    /// - Throws: ``TraceError`` with code `inaccessible` when not all of them can be written.
    public func write(_ bytes: [UInt8], to address: VirtualAddress) throws(TraceError) {
        var outcome = Result<Int, TraceError>.success(0)
        // SAFETY: the kernel reads the array's own storage, and only during the closure.
        unsafe bytes.withUnsafeBytes { raw in
            do throws(TraceError) { outcome = .success(try unsafe write(raw, to: address)) } catch {
                outcome = .failure(error)
            }
        }
        guard try outcome.get() == bytes.count else { throw inaccessible(address, bytes.count, "write") }
    }

    /// Writes `count` bytes of a buffer, past any protection.
    public func write(
        from buffer: TransferBuffer,
        at offset: Int,
        count: Int,
        to address: VirtualAddress
    ) throws(TraceError) {
        // SAFETY: pointer(at:count:) checks the range; the buffer outlives the call.
        let raw = unsafe UnsafeRawBufferPointer(start: buffer.pointer(at: offset, count: count), count: count)
        guard try unsafe write(raw, to: address) == count else { throw inaccessible(address, count, "write") }
    }

    private func inaccessible(_ address: VirtualAddress, _ count: Int, _ verb: String) -> TraceError {
        TraceError(.inaccessible, "Cannot \(verb) \(count) bytes at \(address) of process \(pid)")
    }

    private func read(_ address: VirtualAddress, into buffer: UnsafeMutableRawBufferPointer) throws(TraceError) -> Int {
        guard var pointer = buffer.baseAddress else { return 0 }
        var done = 0
        while done < buffer.count {
            let here = address.rawValue &+ UInt64(done)
            let left = buffer.count - done
            // SAFETY (both calls): the kernel writes at most `left` bytes behind `pointer`, which lie in the buffer.
            var count = unsafe Int(clinux_process_vm_read(pid, here, pointer, left))
            if count == -Int(EFAULT) {
                count = unsafe readPastProtection(here, pointer, min(left, Self.fallbackBytes))
            } else if count < 0 {
                try TraceError.check("process_vm_readv", count, "Cannot read the memory of process \(pid)")
            }
            guard count > 0 else { return done }
            done += count
            unsafe pointer += count
        }
        return done
    }

    /// Reads what protection hides; 0 where there is nothing.
    private func readPastProtection(_ address: UInt64, _ pointer: UnsafeMutableRawPointer, _ count: Int) -> Int {
        guard let offset = off_t(exactly: address) else { return 0 }
        // SAFETY: the caller's buffer has `count` bytes behind `pointer`.
        return max(0, unsafe pread(mem.rawValue, pointer, count, offset))
    }

    private func write(_ bytes: UnsafeRawBufferPointer, to address: VirtualAddress) throws(TraceError) -> Int {
        guard var pointer = bytes.baseAddress else { return 0 }
        var done = 0
        while done < bytes.count {
            let here = address.rawValue &+ UInt64(done)
            let left = bytes.count - done
            // SAFETY (both calls): the kernel reads at most `left` bytes behind `pointer`, which lie in the buffer.
            var count = unsafe Int(clinux_process_vm_write(pid, here, pointer, left))
            if count == -Int(EFAULT), let offset = off_t(exactly: here) {
                count = unsafe max(0, pwrite(mem.rawValue, pointer, min(left, Self.fallbackBytes), offset))
            } else if count < 0 {
                try TraceError.check("process_vm_writev", count, "Cannot write the memory of process \(pid)")
            }
            guard count > 0 else { return done }
            done += count
            unsafe pointer += count
        }
        return done
    }
}
