// SPDX-License-Identifier: Apache-2.0
internal import CTestSupport
internal import Glibc

/// Text of a small file or of a file in `/proc`; bytes that are no UTF-8 are replaced.
public func readText(_ path: String) throws -> String {
    String(decoding: try readBytes(path), as: UTF8.self)
}

/// Bytes of a file or of a file in `/proc`.
public func readBytes(_ path: String) throws -> [UInt8] {
    // SAFETY: a NUL-terminated copy for the time of the call.
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw TestFailure("open \(path): \(errorText())") }
    defer { close(descriptor) }
    var result: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
        // SAFETY: the buffer is as long as it says and outlives the call.
        let count = unsafe buffer.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
        if count < 0 && errno == EINTR { continue }
        guard count >= 0 else { throw TestFailure("read \(path): \(errorText())") }
        if count == 0 { return result }
        result += buffer[..<count]
    }
}

/// Creates or replaces a file.
public func writeFile(_ path: String, _ text: String, mode: UInt32 = 0o644) throws {
    try writeFile(path, bytes: Array(text.utf8), mode: mode)
}

/// Creates or replaces a file.
public func writeFile(_ path: String, bytes: [UInt8], mode: UInt32 = 0o644) throws {
    // SAFETY: a NUL-terminated copy for the time of the call.
    let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw TestFailure("open \(path): \(errorText())") }
    defer { close(descriptor) }
    var done = 0
    while done < bytes.count {
        // SAFETY: the bytes from `done` on are inside of the array.
        let count = unsafe bytes.withUnsafeBytes { unsafe write(descriptor, $0.baseAddress! + done, $0.count - done) }
        guard count > 0 else { throw TestFailure("write \(path): \(errorText())") }
        done += count
    }
}

/// Whether a file exists.
public func fileExists(_ path: String) -> Bool {
    // SAFETY: a NUL-terminated copy for the time of the call.
    unsafe access(path, F_OK) == 0
}

/// Where a symbolic link leads.
public func readLink(_ path: String) throws -> String {
    var buffer = [UInt8](repeating: 0, count: 4096)
    // SAFETY: the buffer is as long as it says and outlives the call.
    let count = unsafe buffer.withUnsafeMutableBytes { unsafe readlink(path, $0.baseAddress!, $0.count) }
    guard count >= 0 else { throw TestFailure("readlink \(path): \(errorText())") }
    return String(decoding: buffer[..<count], as: UTF8.self)
}

/// Names in a folder, sorted, without `.` and `..`.
public func namesInFolder(_ path: String) throws -> [String] {
    // SAFETY: the stream is used here only and closed at the end; d_name ends by NUL.
    guard let stream = unsafe opendir(path) else { throw TestFailure("opendir \(path): \(errorText())") }
    defer { unsafe closedir(stream) }
    var names: [String] = []
    while let entry = unsafe readdir(stream) {
        let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
            unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
}

/// Text of errno.
func errorText(_ number: Int32 = errno) -> String {
    // SAFETY: since glibc 2.32 the text is constant or belongs to the calling thread.
    guard let text = unsafe strerror(number) else { return "errno \(number)" }
    // SAFETY: NUL-terminated.
    return unsafe String(cString: text)
}

/// A folder that exists as long as the tests run; everybody may write in it, as victims change their user.
public struct Scratch: Sendable {
    /// Its path.
    public let path: String

    /// The folder of the whole run, removed at exit.
    public static let run: Scratch = {
        var template = Array("/tmp/thaw-tests.XXXXXX\0".utf8).map { CChar(bitPattern: $0) }
        // SAFETY: a writable template that ends by NUL.
        guard unsafe mkdtemp(&template) != nil else { fatalError("mkdtemp: \(errorText())") }
        let path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        // SAFETY: a NUL-terminated copy for the time of the call.
        unsafe chmod(path, 0o777)
        atexit { Scratch.removeRun() }
        return Scratch(path: path)
    }()

    /// A new folder inside of the folder of the run.
    public init(_ name: String) throws {
        let number = Self.counter.next()
        path = "\(Self.run.path)/\(name)-\(number)"
        // SAFETY: NUL-terminated copies for the time of the calls.
        guard unsafe mkdir(path, 0o777) == 0 else { throw TestFailure("mkdir \(path): \(errorText())") }
        unsafe chmod(path, 0o777)
    }

    /// Path of a file in the folder.
    public func file(_ name: String) -> String {
        "\(path)/\(name)"
    }

    private init(path: String) {
        self.path = path
    }

    static let counter = Counter()

    private static func removeRun() {
        removeSystemVObjects()
        if let process = try? TestProcess("/bin/rm", ["-rf", run.path], options: .init(output: .null, errors: .null)) {
            _ = try? process.waitForExit()
        }
    }

    /// System V objects outlive the victim that made them when it was killed; it notes their ids in a file `ipc` of its folder.
    private static func removeSystemVObjects() {
        for folder in (try? namesInFolder(run.path)) ?? [] {
            guard let note = try? readText("\(run.path)/\(folder)/ipc") else { continue }
            let ids = note.split(whereSeparator: \.isWhitespace).map(String.init)
            guard ids.count == 2 else { continue }
            let arguments = ["-s", ids[0], "-q", ids[1]]
            if let process = try? TestProcess("/usr/bin/ipcrm", arguments, options: .init(output: .null, errors: .null))
            {
                _ = try? process.waitForExit()
            }
        }
    }
}
