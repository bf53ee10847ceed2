// SPDX-License-Identifier: Apache-2.0
public import Paging

/// One line of `/proc/PID/maps`, proc_pid_maps(5).
public struct MapEntry: Hashable, Sendable {
    /// The addresses.
    public var range: AddressRange
    /// PROT_READ.
    public var isReadable: Bool
    /// PROT_WRITE.
    public var isWritable: Bool
    /// PROT_EXEC.
    public var isExecutable: Bool
    /// MAP_SHARED.
    public var isShared: Bool
    /// Byte offset in the file.
    public var offset: UInt64
    /// Major number of the file's device.
    public var deviceMajor: UInt32
    /// Minor number of the file's device.
    public var deviceMinor: UInt32
    /// Inode of the file, 0 for anonymous memory.
    public var inode: UInt64
    /// Path, `[heap]`, `[anon:NAME]` and the like, or empty; bytes of a path need not be UTF-8.
    public var nameBytes: [UInt8]
    /// What only smaps tells; nil when maps was read.
    public var details: MapDetails?

    /// The name as text.
    public var name: String {
        nameBytes.text
    }

    /// PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4.
    public var protection: UInt8 {
        (isReadable ? 1 : 0) | (isWritable ? 2 : 0) | (isExecutable ? 4 : 0)
    }
}

/// What `/proc/PID/smaps` tells of a mapping besides its line in maps.
public struct MapDetails: Hashable, Sendable {
    /// Page size of the mapping in bytes (more than 4096 for hugetlb).
    public var kernelPageSize: UInt64 = 0
    /// Bytes present.
    public var resident: UInt64 = 0
    /// Bytes of anonymous pages present.
    public var anonymous: UInt64 = 0
    /// Bytes of anonymous huge pages.
    public var anonymousHuge: UInt64 = 0
    /// Whether the kernel would put it into huge pages by itself.
    public var isHugePageEligible = false
    /// Bytes in swap.
    public var swap: UInt64 = 0
    /// Bytes locked.
    public var locked: UInt64 = 0
    /// The two-letter words of VmFlags, in order.
    public var flags: [String] = []

    /// Whether VmFlags holds a two-letter word.
    public func has(_ flag: String) -> Bool {
        flags.contains(flag)
    }
}

/// The address space as the kernel lists it.
public enum ProcessMaps {
    /// Reads `/proc/PID/maps`.
    public static func read(_ pid: Int32) throws(TraceError) -> [MapEntry] {
        let path = "/proc/\(pid)/maps"
        return try parse(ProcFile.read(path), file: path)
    }

    /// Reads `/proc/PID/smaps`.
    ///
    /// The kernel walks all page tables for it: about 10 ms for each GiB present.
    public static func readDetailed(_ pid: Int32) throws(TraceError) -> [MapEntry] {
        let path = "/proc/\(pid)/smaps"
        return try parse(ProcFile.read(path), file: path)
    }

    /// Parses the text of maps or smaps.
    public static func parse(_ text: [UInt8], file: String) throws(TraceError) -> [MapEntry] {
        var entries: [MapEntry] = []
        for line in text.lines {
            if let entry = entry(line) {
                entries.append(entry)
            } else if let (key, value) = detail(line), !entries.isEmpty {
                apply(key, value, to: &entries[entries.count - 1])
            } else {
                throw .malformed(file, line)
            }
        }
        return entries
    }

    /// A line as `7f0000000000-7f0000001000 r-xp 00000000 fe:00 1234   /usr/bin/cat`.
    private static func entry(_ line: ArraySlice<UInt8>) -> MapEntry? {
        var cursor = ByteCursor(line)
        guard let start = cursor.hexadecimal(), cursor.skip(UInt8(ascii: "-")), let end = cursor.hexadecimal(),
            start < end, cursor.skip(.space)
        else { return nil }
        let flags = Array(cursor.word())
        guard flags.count == 4, cursor.skip(.space), let offset = cursor.hexadecimal(), cursor.skip(.space),
            let major = cursor.hexadecimal(), cursor.skip(.colon), let minor = cursor.hexadecimal(),
            cursor.skip(.space),
            let deviceMajor = UInt32(exactly: major), let deviceMinor = UInt32(exactly: minor),
            let inode = cursor.number()
        else { return nil }
        cursor.skipBlanks()
        return MapEntry(
            range: AddressRange(VirtualAddress(start), VirtualAddress(end)),
            isReadable: flags[0] == UInt8(ascii: "r"),
            isWritable: flags[1] == UInt8(ascii: "w"),
            isExecutable: flags[2] == UInt8(ascii: "x"),
            isShared: flags[3] == UInt8(ascii: "s"),
            offset: offset,
            deviceMajor: deviceMajor,
            deviceMinor: deviceMinor,
            inode: inode,
            nameBytes: unescaped(cursor.rest)
        )
    }

    /// The kernel writes a newline in a path as `\012` and nothing else so.
    private static func unescaped(_ name: ArraySlice<UInt8>) -> [UInt8] {
        let escape = Array("\\012".utf8)
        guard name.contains(UInt8(ascii: "\\")) else { return Array(name) }
        var result: [UInt8] = []
        var rest = name
        while let byte = rest.first {
            let isEscape = rest.starts(with: escape)
            result.append(isEscape ? .newline : byte)
            rest = rest.dropFirst(isEscape ? escape.count : 1)
        }
        return result
    }

    /// A line as `Rss:                 20 kB`.
    private static func detail(_ line: ArraySlice<UInt8>) -> (key: String, value: ArraySlice<UInt8>)? {
        guard let colon = line.firstIndex(of: .colon), colon > line.startIndex else { return nil }
        let key = line[..<colon]
        guard key.allSatisfy({ $0 != .space }) else { return nil }
        return (key.text, line[(colon + 1)...])
    }

    private static func apply(_ key: String, _ value: ArraySlice<UInt8>, to entry: inout MapEntry) {
        var details = entry.details ?? MapDetails()
        var cursor = ByteCursor(value)
        cursor.skipBlanks()
        let bytes: UInt64 = {
            let (product, overflow) = (cursor.number() ?? 0).multipliedReportingOverflow(by: 1024)
            return overflow ? UInt64.max : product
        }()
        switch key {
        case "KernelPageSize": details.kernelPageSize = bytes
        case "Rss": details.resident = bytes
        case "Anonymous": details.anonymous = bytes
        case "AnonHugePages": details.anonymousHuge = bytes
        case "THPeligible": details.isHugePageEligible = bytes > 0
        case "Swap": details.swap = bytes
        case "Locked": details.locked = bytes
        case "VmFlags": details.flags = value.split(separator: .space).map(\.text)
        default: break
        }
        entry.details = details
    }
}
