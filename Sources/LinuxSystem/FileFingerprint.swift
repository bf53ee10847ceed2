// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// What tells the contents of a file from those of another of the same path.
public struct FileFingerprint: Hashable, Sendable {
    /// Bytes.
    public var size: UInt64 = 0
    /// Modification time, nanoseconds since 1970.
    public var modified: Int64 = 0
    /// NT_GNU_BUILD_ID of an ELF file, or empty.
    public var buildID: [UInt8] = []
    /// SHA-256 of a file without build id, or empty.
    public var digest: [UInt8] = []

    /// An empty fingerprint.
    public init() {}

    /// Reads the fingerprint of an open file; its offset stays.
    ///
    /// - Parameters:
    ///   - descriptor: open for reading.
    ///   - digestLimit: a file without a build id that is longer has no digest; 0 for none at all.
    public init(descriptor: Int32, digestLimit: UInt64) throws(SystemCallError) {
        let status = try FileStatus(descriptor: descriptor)
        size = UInt64(clamping: status.size)
        modified = status.modified
        guard status.kind == .regular, size > 0 else { return }
        let head = try FileReading.read(descriptor, at: 0, count: ELFFile.headerBytes)
        for range in ELFFile.noteRanges(head) {
            let notes = try FileReading.read(descriptor, at: range.lowerBound, count: range.count)
            if let found = ELFFile.buildID(notes: notes) {
                buildID = found
                return
            }
        }
        guard size <= digestLimit else { return }
        digest = try Self.digest(of: descriptor)
    }

    private static func digest(of descriptor: Int32) throws(SystemCallError) -> [UInt8] {
        var hash = SHA256()
        var offset: UInt64 = 0
        while true {
            let piece = try FileReading.read(descriptor, at: offset, count: 1 << 20)
            if piece.isEmpty { return hash.finish() }
            hash.update(piece.span)
            offset += UInt64(piece.count)
        }
    }
}

extension FileReading {
    /// Reads up to `count` bytes from `offset` on; fewer only at the end of the file.
    ///
    /// The position of the file stays.
    ///
    /// The corresponding call is `pread`.
    public static func read(_ descriptor: Int32, at offset: UInt64, count: Int) throws(SystemCallError) -> [UInt8] {
        var done = 0
        var failure: Errno?
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, initialised in
            while done < count {
                // SAFETY: the kernel writes at most what is left of the array's own memory.
                let result = unsafe pread(
                    descriptor,
                    buffer.baseAddress.map { unsafe $0 + done },
                    count - done,
                    off_t(offset) + done
                )
                if result == 0 { break }
                if result > 0 {
                    done += result
                } else if errno != EINTR {
                    failure = Errno(rawValue: errno)
                    break
                }
            }
            initialised = done
        }
        if let failure { throw SystemCallError("pread", failure, operand: "descriptor \(descriptor) at \(offset)") }
        return bytes
    }
}
