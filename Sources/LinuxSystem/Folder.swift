// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// Folders and the names in them.
public enum Folder {
    /// Makes a folder and those above it; one that is there is right.
    ///
    /// The corresponding call is `mkdir`.
    public static func make(_ path: String, permissions: UInt32) throws(SystemCallError) {
        var position = path.startIndex
        while position < path.endIndex {
            let next = path[path.index(after: position)...].firstIndex(of: "/") ?? path.endIndex
            let part = String(path[..<next])
            position = next
            do throws(SystemCallError) {
                // SAFETY: the bridged string is NUL-terminated and lives during the call.
                try systemCall("mkdir", operand: part) {
                    unsafe mkdir(part, next == path.endIndex ? permissions : 0o755)
                }
            } catch {
                guard error.errno == .exists else { throw error }
            }
        }
        guard try FileStatus(path: path).kind == .directory else {
            throw SystemCallError("mkdir", .notDirectory, operand: path)
        }
    }

    /// Takes a name away; one that is not there is right.
    ///
    /// The corresponding call is `unlink`.
    public static func remove(_ path: String) throws(SystemCallError) {
        do throws(SystemCallError) {
            // SAFETY: as above.
            try systemCall("unlink", operand: path) { unsafe unlink(path) }
        } catch {
            guard error.errno == .noEntry else { throw error }
        }
    }

    /// The names in a folder, sorted, without `.` and `..`.
    ///
    /// The corresponding calls are `opendir` and `readdir`.
    public static func names(in path: String) throws(SystemCallError) -> [String] {
        // SAFETY: the stream is closed below and does not leave the function.
        guard let stream = unsafe opendir(path) else {
            throw SystemCallError("opendir", Errno(rawValue: errno), operand: path)
        }
        defer { _ = unsafe closedir(stream) }
        var names: [String] = []
        while let entry = unsafe readdir(stream) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }
}
