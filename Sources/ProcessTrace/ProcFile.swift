// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem

/// Files and links below `/proc`.
public enum ProcFile {
    /// The largest file that is read (a million mappings need about 150 MB).
    public static let sizeLimit = 512 << 20

    /// Reads a file of `/proc` to its end.
    ///
    /// - Throws: ``TraceError`` with code `gone` when the process has ended.
    public static func read(_ path: String) throws(TraceError) -> [UInt8] {
        let file = try open(path, O_RDONLY)
        var bytes: [UInt8] = []
        // Most files are small, and there may be one for each of many threads.
        var room = 4 << 10
        while bytes.count < sizeLimit {
            let chunk = try attempt("read", path) { () throws(SystemCallError) in
                try readChunk(file.rawValue, room: room)
            }
            if chunk.isEmpty { return bytes }
            if bytes.isEmpty { bytes = chunk } else { bytes += chunk }
            room = 64 << 10
        }
        throw TraceError(.malformed, "\"\(path)\" is larger than \(sizeLimit) bytes")
    }

    private static func readChunk(_ descriptor: Int32, room: Int) throws(SystemCallError) -> [UInt8] {
        while true {
            var failure: Errno?
            let chunk = unsafe [UInt8](unsafeUninitializedCapacity: room) { buffer, initialised in
                // SAFETY: the kernel writes at most `room` bytes into the array's own memory.
                let count = unsafe Glibc.read(descriptor, buffer.baseAddress, room)
                if count < 0 { failure = Errno(rawValue: errno) }
                initialised = max(0, count)
            }
            guard let failure else { return chunk }
            guard failure == .interrupted else { throw SystemCallError("read", failure) }
        }
    }

    /// The target of a link of `/proc` as bytes, or nil when the link does not exist (a closed descriptor, a kernel thread).
    ///
    /// The corresponding call is `readlink(2)`.
    public static func link(_ path: String) throws(TraceError) -> [UInt8]? {
        var target = [UInt8](repeating: 0, count: 4097)
        do {
            let count = try systemCall("readlink") { () -> Int in
                // SAFETY: readlink writes at most the given size; both pointers live as long as the call.
                unsafe target.withUnsafeMutableBytes { buffer -> Int in
                    unsafe buffer.withMemoryRebound(to: CChar.self) { text -> Int in
                        guard let start = text.baseAddress else { return 0 }
                        return unsafe readlink(path, start, text.count)
                    }
                }
            }
            return Array(target[..<count])
        } catch {
            if error.errno == .noEntry { return nil }
            throw TraceError(error, "Cannot read the link \"\(path)\"")
        }
    }

    /// The entries of a directory of `/proc` that are numbers (threads, descriptors), ascending.
    public static func numbers(in path: String) throws(TraceError) -> [Int32] {
        // SAFETY: the stream is closed below and does not leave the function.
        guard let directory = unsafe opendir(path) else {
            throw failure(SystemCallError("opendir", Errno(rawValue: errno)), path)
        }
        defer { unsafe closedir(directory) }
        var numbers: [Int32] = []
        // SAFETY: an entry is valid until the next readdir of the same stream; its name is NUL-terminated.
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if let number = Int32(name) { numbers.append(number) }
        }
        return numbers.sorted()
    }

    /// The value of `auxv(5)`-like files: pairs of words as the process was given them, raw.
    public static func auxiliaryVector(of pid: Int32) throws(TraceError) -> [UInt8] {
        try read("/proc/\(pid)/auxv")
    }

    /// The ids of the threads of a process.
    public static func threads(of pid: Int32) throws(TraceError) -> [Int32] {
        try numbers(in: "/proc/\(pid)/task")
    }

    /// The descriptors of a process (or thread).
    public static func descriptors(of pid: Int32) throws(TraceError) -> [Int32] {
        try numbers(in: "/proc/\(pid)/fd")
    }

    /// The child processes of all threads of a process.
    public static func children(of pid: Int32) throws(TraceError) -> [Int32] {
        var children: [Int32] = []
        for tid in try threads(of: pid) {
            let path = "/proc/\(pid)/task/\(tid)/children"
            let text: [UInt8]
            do { text = try read(path) } catch {
                guard error.code == .gone else { throw error }
                continue
            }
            for word in text.split(whereSeparator: { $0 == .space || $0 == .newline }) {
                guard let child = Int32(word.text) else { throw .malformed(path, word) }
                children.append(child)
            }
        }
        return children
    }

    static func open(_ path: String, _ flags: Int32) throws(TraceError) -> OwnedDescriptor {
        // SAFETY: the path is NUL-terminated for the time of the call.
        do {
            return OwnedDescriptor(adopting: try systemCall("open") { unsafe Glibc.open(path, flags | O_CLOEXEC) })
        } catch {
            throw failure(error, path)
        }
    }

    private static func attempt<Value>(
        _ call: String,
        _ path: String,
        _ body: () throws(SystemCallError) -> Value
    ) throws(TraceError) -> Value {
        do { return try body() } catch { throw failure(error, path) }
    }

    /// A file below `/proc/PID` that is not there means that the process is not there.
    private static func failure(_ error: SystemCallError, _ path: String) -> TraceError {
        let gone = error.errno == .noEntry || error.errno == .noSuchProcess
        let base = TraceError(error, "Cannot read \"\(path)\"")
        return gone ? TraceError(.gone, base.message, cause: error) : base
    }
}
