// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Files that other programs read while they are written: pid files and statistics.
public enum AtomicFile {
    /// When a write counts as done.
    public enum Durability: Sendable {
        /// When other programs see it.
        case cached
        /// When it is on the disk, name and all (fsync(2)): it survives the machine.
        case onDisk
    }

    /// Puts a file with these bytes in place of whatever has the path; a reader sees the old bytes or the new ones.
    ///
    /// A path that names something other than a regular file (`/dev/stdout`, a FIFO) is written into instead.
    ///
    /// The corresponding calls are `open(O_EXCL)`, `write` and `rename`.
    public static func write(
        _ bytes: [UInt8],
        to path: String,
        permissions: UInt32 = 0o644,
        _ durability: Durability = .cached
    ) throws(SystemCallError) {
        if let status = try? FileStatus(path: path), status.kind != .regular {
            // SAFETY: the bridged string is NUL-terminated and lives during the call.
            let number = try systemCall("open", operand: path) { unsafe open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY) }
            let file = OwnedDescriptor(adopting: number)
            return try DescriptorIO.write(bytes, to: file.rawValue)
        }
        let temporary = "\(path).\(getpid()).\(NamedThread.currentID).new"
        // SAFETY: as above.
        let number = try systemCall("open", operand: temporary) {
            unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, permissions)
        }
        let file = OwnedDescriptor(adopting: number)
        do throws(SystemCallError) {
            try DescriptorIO.write(bytes, to: file.rawValue)
            if durability == .onDisk { try systemCall("fsync", operand: temporary) { fsync(number) } }
            // SAFETY: as above.
            try systemCall("rename", operand: "\(temporary) to \(path)") { unsafe rename(temporary, path) }
        } catch {
            // SAFETY: as above.
            _ = unsafe unlink(temporary)
            throw error
        }
        if durability == .onDisk { try syncFolder(of: path) }
    }

    private static func syncFolder(of path: String) throws(SystemCallError) {
        let end = path.utf8.lastIndex(of: UInt8(ascii: "/"))
        let folder = end.map { String(path[..<$0]) } ?? "."
        let file = try FileReading.open(folder.isEmpty ? "/" : folder)
        let number = file.rawValue
        try systemCall("fsync", operand: folder) { fsync(number) }
    }
}
