// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem

/// The 64 bits that `/proc/PID/pagemap` holds of a page, proc_pid_pagemap(5).
public struct PagemapEntry: RawRepresentable, Hashable, Sendable {
    /// The bits of the kernel.
    public let rawValue: UInt64

    /// Wraps bits of the kernel.
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// In memory.
    public var isPresent: Bool { rawValue >> 63 & 1 == 1 }
    /// In swap; markers are shown so as well.
    public var isSwapped: Bool { rawValue >> 62 & 1 == 1 }
    /// A page of a file or of shared memory (Linux 3.5).
    public var isFile: Bool { rawValue >> 61 & 1 == 1 }
    /// A guard page (Linux 6.15).
    public var isGuard: Bool { rawValue >> 58 & 1 == 1 }
    /// Write-protected by a userfaultfd (Linux 5.14).
    public var isWriteProtected: Bool { rawValue >> 57 & 1 == 1 }
    /// Written since `/proc/PID/clear_refs` was told so, or of a mapping that was made since (CONFIG_MEM_SOFT_DIRTY).
    public var isSoftDirty: Bool { rawValue >> 55 & 1 == 1 }
    /// The page frame of a page that is present; 0 for readers without CAP_SYS_ADMIN.
    public var frame: UInt64 { isPresent ? rawValue & (1 << 55 - 1) : 0 }

    /// The entries in bytes as the kernel writes them; a piece of an entry at the end is left out.
    public static func parse(_ bytes: ArraySlice<UInt8>) -> [PagemapEntry] {
        stride(from: bytes.startIndex, to: bytes.endIndex - 7, by: 8).map { start in
            PagemapEntry(rawValue: bytes[start..<start + 8].reversed().reduce(0) { $0 << 8 | UInt64($1) })
        }
    }
}

/// Reads `/proc/PID/pagemap` entry by entry, where PAGEMAP_SCAN is missing or does not tell enough.
///
/// It takes 8 bytes for each page of the range, there or not: about 10 ms for each GiB of addresses.
public final class PagemapReader: Sendable {
    /// Whose pages.
    public let pid: Int32
    private let file: OwnedDescriptor

    /// Entries in one read.
    private static let chunk = 8192

    /// Opens `/proc/PID/pagemap`.
    public init(pid: Int32) throws(TraceError) {
        self.pid = pid
        file = try ProcFile.open("/proc/\(pid)/pagemap", O_RDONLY)
    }

    /// Calls `body` with the number and the entry of every page of a range, ascending.
    ///
    /// - Throws: ``TraceError`` with code `gone` when the process has ended or executed another program since this was opened.
    public func forEachEntry(
        of pages: Range<UInt64>,
        _ body: (UInt64, PagemapEntry) -> Void
    ) throws(TraceError) {
        var entries = [UInt64](repeating: 0, count: Int(min(UInt64(Self.chunk), UInt64(pages.count))))
        var page = pages.lowerBound
        while page < pages.upperBound {
            let wanted = Int(min(UInt64(entries.count), pages.upperBound - page))
            let got = try read(&entries, wanted, from: page)
            guard got > 0 else { throw TraceError(.gone, "The address space of process \(pid) is gone") }
            for index in 0..<got { body(page + UInt64(index), PagemapEntry(rawValue: entries[index])) }
            page += UInt64(got)
        }
    }

    private func read(_ entries: inout [UInt64], _ count: Int, from page: UInt64) throws(TraceError) -> Int {
        do {
            let bytes = try systemCall("pread") { () -> Int in
                // SAFETY: the kernel writes at most `count` entries of the array's own storage during the closure.
                unsafe entries.withUnsafeMutableBytes {
                    unsafe pread(file.rawValue, $0.baseAddress, count * 8, off_t(page * 8))
                }
            }
            return bytes / 8
        } catch {
            throw TraceError(error, "Cannot read the page map of process \(pid)")
        }
    }
}

/// The soft-dirty bits of a process.
public enum SoftDirtyBits {
    /// Clears them all; whoever else uses them loses what they told.
    ///
    /// Corresponds to writing 4 to `/proc/PID/clear_refs`.
    public static func clear(_ pid: Int32) throws(TraceError) {
        let path = "/proc/\(pid)/clear_refs"
        let file = try ProcFile.open(path, O_WRONLY)
        do {
            try systemCall("write") {
                // SAFETY: one byte that lives during the call.
                unsafe write(file.rawValue, "4", 1)
            }
        } catch {
            throw TraceError(error, "Cannot write \"\(path)\"")
        }
    }
}
