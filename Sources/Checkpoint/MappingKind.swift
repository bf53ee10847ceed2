// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import ProcessImage
internal import ProcessTrace

/// What a line of `/proc/PID/maps` stands for.
enum MappingKind: Hashable {
    /// A mapping that is carried.
    case carried(MappingDescription.Kind)
    /// `[vsyscall]`: every process has it at the same place.
    case everywhere
    /// A mapping that is not carried.
    case refused(RefusedObject)

    /// VmFlags that a description keeps: what mmap, madvise and mlock can set again.
    static let keptFlags: Set<String> = ["gd", "lo", "lf", "nr", "dc", "wf", "dd", "hg", "nh", "rr", "sr", "mg"]

    /// Tells the kind.
    ///
    /// - Parameters:
    ///   - entry: the line.
    ///   - flags: its VmFlags.
    ///   - file: stat(2) of `/proc/PID/map_files/…`, nil for a mapping without a file.
    init(_ entry: MapEntry, flags: [String], file: FileStatus?) {
        let name = entry.name
        if let kernel = Self.kernel(name) {
            self = kernel
        } else if let refusal = Self.refusal(name: name, flags: flags) {
            self = .refused(refusal)
        } else if let file {
            self = Self.file(entry, name: name, status: file)
        } else {
            self = Self.anonymous(name)
        }
    }

    private static func kernel(_ name: String) -> Self? {
        switch name {
        case "[vsyscall]": .everywhere
        case "[vdso]", "[vvar]", "[vvar_vclock]": .carried(.kernel)
        default: nil
        }
    }

    private static func refusal(name: String, flags: [String]) -> RefusedObject? {
        if name == "/[aio]" || name.hasPrefix("/[aio] ") { return .asynchronousIO }
        if name.hasPrefix("/SYSV") { return .systemVMemory }
        if name.hasPrefix("/secretmem") { return .secretMemory }
        for flag in flags {
            switch flag {
            case "um", "uw", "ui": return .foreignUserfaultfd
            case "ht": return .hugePages
            case "ss": return .shadowStack
            case "sl": return .sealedMapping
            case "dp": return .droppableMapping
            case "io", "pf", "mm": return device(name)
            default: continue
            }
        }
        return nil
    }

    /// A mapping of a ring or a device: by the name of its descriptor where that has a row of its own.
    private static func device(_ name: String) -> RefusedObject {
        guard name.hasPrefix("anon_inode:"),
            case .refused(let kind) = DescriptorKind.anonymous(String(name.dropFirst("anon_inode:".count)))
        else { return .deviceMapping }
        return kind == .anonymousInode ? .deviceMapping : kind
    }

    private static func file(_ entry: MapEntry, name: String, status: FileStatus) -> Self {
        switch status.kind {
        case .characterDevice:
            // A private mapping of /dev/zero is anonymous memory with a name.
            let isZero = DescriptorKind.deviceNumbers(status.representedDevice) == (1, 5)
            return isZero && !entry.isShared ? .carried(.anonymous) : .refused(.deviceMapping)
        case .regular
        where name.hasPrefix("/memfd:") || name == "/dev/zero (deleted)" || name.hasPrefix("[anon_shmem:"):
            return .carried(entry.isShared ? .sharedObject : .privateObject)
        case .regular:
            return .carried(entry.isShared ? .sharedFile : .privateFile)
        case .directory, .symbolicLink, .blockDevice, .fifo, .socket, .other:
            return .refused(device(name))
        }
    }

    private static func anonymous(_ name: String) -> Self {
        let known = name.isEmpty || name == "[heap]" || name.hasPrefix("[stack") || name.hasPrefix("[anon:")
        return known ? .carried(.anonymous) : .refused(.unknownMapping)
    }
}
