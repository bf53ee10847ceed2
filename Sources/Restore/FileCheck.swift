// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import ProcessImage

/// Whether the files that the process maps or has open are the same on this machine.
struct FileCheck {
    let files: [FileIdentity]
    /// Source and destination are one machine since its last boot: size and time are enough.
    let isSameMachine: Bool

    init(_ description: ProcessDescription) {
        files = description.memory.files
        let own = (try? FileReading.read("/proc/sys/kernel/random/boot_id", limit: 4096)) ?? []
        let id = String(decoding: own.prefix { $0 != 10 }, as: UTF8.self)
        isSameMachine = !id.isEmpty && id == description.machine.bootID
    }

    /// Compares all files.
    func run() throws(RestoreError) {
        for file in files { try check(file) }
    }

    private func check(_ file: FileIdentity) throws(RestoreError) {
        let descriptor = try Self.open(file.path)
        let status = try RestoreError.wrap("look at \"\(file.path)\"") { () throws(SystemCallError) in
            try FileStatus(descriptor: descriptor.rawValue)
        }
        guard UInt64(clamping: status.size) == file.size else {
            throw differs(file, "has \(status.size) bytes and not \(file.size)")
        }
        if file.writable || (isSameMachine && status.modified == file.modified) { return }
        let needsDigest = file.buildID.isEmpty && !file.digest.isEmpty
        let own = try RestoreError.wrap("read \"\(file.path)\"") { () throws(SystemCallError) in
            try FileFingerprint(
                descriptor: descriptor.rawValue,
                digestLimit: needsDigest ? FileIdentity.maximumDigestedSize : 0
            )
        }
        if !file.buildID.isEmpty {
            guard own.buildID == file.buildID else { throw differs(file, "has another build id") }
        } else if !file.digest.isEmpty {
            guard own.digest == file.digest else { throw differs(file, "has other contents (SHA-256)") }
        } else {
            guard own.modified == file.modified else { throw differs(file, "was written at another time") }
        }
    }

    private static func open(_ path: String) throws(RestoreError) -> OwnedDescriptor {
        do {
            return try FileReading.open(path)
        } catch {
            throw RestoreError(
                .refused,
                "\"\(path)\", which the process uses, cannot be opened here: install the same file",
                cause: error
            )
        }
    }

    private func differs(_ file: FileIdentity, _ how: String) -> RestoreError {
        RestoreError(.refused, "\"\(file.path)\" is another file here than there: it \(how); install the same file")
    }
}
