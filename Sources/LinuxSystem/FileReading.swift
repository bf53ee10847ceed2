// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// What fstat(2) tells.
public struct FileStatus: Hashable, Sendable {
    /// Kind of file.
    public enum Kind: Hashable, Sendable {
        case regular, directory, symbolicLink, characterDevice, blockDevice, fifo, socket, other
    }

    /// Kind of file.
    public let kind: Kind
    /// The twelve permission bits.
    public let permissions: UInt32
    /// Owner.
    public let user: UInt32
    /// Group.
    public let group: UInt32
    /// Bytes.
    public let size: Int64
    /// Device that holds the inode.
    public let device: UInt64
    /// Inode number.
    public let inode: UInt64
    /// Device that a device file stands for.
    public let representedDevice: UInt64
    /// Number of names.
    public let links: UInt64
    /// Modification time, nanoseconds since 1970.
    public let modified: Int64

    init(_ status: stat) {
        kind =
            switch status.st_mode & S_IFMT {
            case S_IFREG: .regular
            case S_IFDIR: .directory
            case S_IFLNK: .symbolicLink
            case S_IFCHR: .characterDevice
            case S_IFBLK: .blockDevice
            case S_IFIFO: .fifo
            case S_IFSOCK: .socket
            default: .other
            }
        permissions = status.st_mode & 0o7777
        user = status.st_uid
        group = status.st_gid
        size = Int64(status.st_size)
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
        representedDevice = UInt64(status.st_rdev)
        links = UInt64(status.st_nlink)
        modified = Int64(status.st_mtim.tv_sec) &* 1_000_000_000 &+ Int64(status.st_mtim.tv_nsec)
    }

    /// Of a path; symbolic links are followed.
    ///
    /// The corresponding call is `stat`.
    public init(path: String) throws(SystemCallError) {
        var status = stat()
        // SAFETY: the kernel writes one structure that lives during the call.
        try systemCall("stat", operand: path) { unsafe stat(path, &status) }
        self.init(status)
    }

    /// Of a descriptor.
    ///
    /// The corresponding call is `fstat`.
    public init(descriptor: Int32) throws(SystemCallError) {
        var status = stat()
        // SAFETY: the kernel writes one structure that lives during the call.
        try systemCall("fstat", operand: "descriptor \(descriptor)") { unsafe fstat(descriptor, &status) }
        self.init(status)
    }
}

/// Whole small files as bytes: `/proc`, certificates, settings.
public enum FileReading {
    /// Opens a file for reading, close-on-exec.
    ///
    /// The corresponding call is `open`.
    public static func open(_ path: String) throws(SystemCallError) -> OwnedDescriptor {
        // SAFETY: the bridged string is NUL-terminated and lives during the call.
        OwnedDescriptor(
            adopting: try systemCall("open", operand: path) { unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY) }
        )
    }

    /// Reads a file from its beginning to its end.
    ///
    /// - Parameter limit: most bytes; a longer file is an error, not cut off.
    /// - Throws: ``SystemCallError``; `EFBIG` above the limit.
    public static func read(_ path: String, limit: Int = 1 << 20) throws(SystemCallError) -> [UInt8] {
        let file = try open(path)
        return try read(file.rawValue, name: path, limit: limit)
    }

    /// Reads an open file from its beginning to its end, whatever its position is; the position stays.
    ///
    /// The corresponding call is `pread`.
    public static func read(_ descriptor: Int32, name: String, limit: Int = 1 << 20) throws(SystemCallError) -> [UInt8]
    {
        // The files of /proc say size 0 and give at most a page or so at a time.
        var all: [UInt8] = []
        let size = try FileStatus(descriptor: descriptor).size
        var capacity = min(limit, size > 0 ? Int(clamping: size) : 16384) + 1
        while true {
            let offset = all.count
            let room = capacity - offset
            var failure: Errno?
            var count = 0
            let piece = unsafe [UInt8](unsafeUninitializedCapacity: room) { buffer, initialised in
                // SAFETY: the kernel writes at most `room` bytes into the array's own memory.
                count = unsafe pread(descriptor, buffer.baseAddress, room, off_t(offset))
                if count < 0 { failure = Errno(rawValue: errno) }
                initialised = max(0, count)
            }
            if let failure {
                if failure == .interrupted { continue }
                throw SystemCallError("pread", failure, operand: name)
            }
            if count == 0 { return all }
            if all.isEmpty { all = piece } else { all += piece }
            guard all.count <= limit else {
                throw SystemCallError("pread", Errno(rawValue: EFBIG), operand: "\(name), more than \(limit) bytes")
            }
            if all.count == capacity { capacity = min(limit, capacity * 4) + 1 }
        }
    }

    /// Where a symbolic link leads, as bytes without end mark.
    ///
    /// The corresponding call is `readlink`.
    public static func link(_ path: String) throws(SystemCallError) -> [UInt8] {
        // Links of /proc may be longer than PATH_MAX by " (deleted)".
        let room = Int(PATH_MAX) + 64
        var failure: Errno?
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: room) { buffer, initialised in
            let count = unsafe buffer.withMemoryRebound(to: CChar.self) { characters in
                guard let start = characters.baseAddress else { return 0 }
                // SAFETY: the kernel writes at most `room` bytes into the array's own memory.
                return unsafe readlink(path, start, room)
            }
            if count < 0 { failure = Errno(rawValue: errno) }
            initialised = max(0, count)
        }
        if let failure { throw SystemCallError("readlink", failure, operand: path) }
        return bytes
    }
}

extension FileReading {
    /// Reads up to `count` bytes from `position` of an open file on; fewer only at the end of the file.
    ///
    /// The position of the file stays. The corresponding call is `pread`.
    /// - Parameters:
    ///   - descriptor: open for reading.
    ///   - position: the first byte.
    ///   - count: most bytes.
    ///   - buffer: receives them from `offset` on.
    ///   - offset: bytes into `buffer`.
    /// - Returns: how many were read.
    public static func read(
        _ descriptor: Int32,
        at position: UInt64,
        count: Int,
        into buffer: TransferBuffer,
        at offset: Int
    ) throws(SystemCallError) -> Int {
        var done = 0
        while done < count {
            let rest = count - done
            // SAFETY: pointer(at:count:) checks the range; the kernel writes into it during the call only.
            let result = unsafe pread(
                descriptor,
                buffer.pointer(at: offset + done, count: rest),
                rest,
                off_t(position) + done
            )
            if result == 0 { break }
            if result > 0 {
                done += result
            } else if errno != EINTR {
                throw SystemCallError(
                    "pread",
                    Errno(rawValue: errno),
                    operand: "descriptor \(descriptor) at \(position)"
                )
            }
        }
        return done
    }

    /// Reads once, up to the size of a memory of the caller's, and allocates nothing.
    ///
    /// - Returns: how many bytes were read.
    ///
    /// The corresponding call is `pread`.
    public static func readOnce(
        _ descriptor: Int32,
        at position: UInt64,
        into bytes: inout MutableSpan<UInt8>
    ) throws(SystemCallError) -> Int {
        while true {
            // SAFETY: the kernel writes into the memory of the span, as long as that is, during the call only.
            let result = unsafe bytes.withUnsafeMutableBytes {
                unsafe pread(descriptor, $0.baseAddress, $0.count, off_t(position))
            }
            if result >= 0 { return result }
            guard errno == EINTR else {
                throw SystemCallError(
                    "pread",
                    Errno(rawValue: errno),
                    operand: "descriptor \(descriptor) at \(position)"
                )
            }
        }
    }
}
