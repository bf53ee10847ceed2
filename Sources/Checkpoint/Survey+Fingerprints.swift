// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import ProcessTrace

extension Survey {
    /// A file that a mapping or a descriptor reads or writes.
    struct UsedFile {
        /// A path by which this program can open it whatever has become of its name: a link of `/proc`.
        let access: String
        let path: String
        let status: FileStatus
        let isWritten: Bool
    }

    /// All regular files in use, by the order of mappings, then of descriptors; a file may occur several times.
    var usedFiles: [UsedFile] {
        var files: [UsedFile] = []
        for mapping in mappings where mapping.kind == .privateFile || mapping.kind == .sharedFile {
            guard let status = mapping.file else { continue }
            files.append(
                UsedFile(
                    access: "/proc/\(pid)/map_files/\(mapping.entry.range)",
                    path: mapping.entry.name,
                    status: status,
                    isWritten: mapping.kind == .sharedFile && mapping.has("mw")
                )
            )
        }
        for descriptor in descriptors where descriptor.kind == .path && descriptor.status.kind == .regular {
            files.append(
                UsedFile(
                    access: "/proc/\(pid)/fd/\(descriptor.number)",
                    path: descriptor.link,
                    status: descriptor.status,
                    isWritten: descriptor.isWritable
                )
            )
        }
        return files
    }

    /// Takes the fingerprints of all files that are only read, while the process runs.
    func fingerprint(_ cache: inout ExaminationCache) {
        for file in usedFiles where !file.isWritten {
            let key = ExaminationCache.FileKey(file.status)
            guard cache.fingerprints[key] == nil else { continue }
            cache.fingerprints[key] = Self.fingerprint(file, digestLimit: FileIdentity.maximumDigestedSize)
        }
    }

    /// Reads a fingerprint; of a file that cannot be read (O_PATH, a file without read permission) size and time only.
    static func fingerprint(_ file: UsedFile, digestLimit: UInt64) -> FileFingerprint {
        if let open = try? FileReading.open(file.access),
            let fingerprint = try? FileFingerprint(descriptor: open.rawValue, digestLimit: digestLimit)
        {
            return fingerprint
        }
        var plain = FileFingerprint()
        plain.size = UInt64(clamping: file.status.size)
        plain.modified = file.status.modified
        return plain
    }
}
