// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem

/// What an open descriptor is, told by its link in `/proc/PID/fd` and its fstat(2).
enum DescriptorKind: Hashable {
    /// A regular file, directory or symbolic link (O_PATH) by its path.
    case path
    /// `/dev/null`, `zero`, `full`, `random`, `urandom`.
    case device
    /// A terminal.
    case terminal
    /// An anonymous pipe.
    case pipe
    /// A FIFO by its path.
    case fifo
    case eventfd
    case epoll
    case timerfd
    case signalfd
    case memfd
    /// A kind that is not carried.
    case refused(RefusedObject)

    /// Memory devices that are the same on every machine: minor numbers of major 1.
    private static let portableDevices: Set<UInt64> = [3, 5, 7, 8, 9]

    /// Tells the kind.
    ///
    /// - Parameters:
    ///   - link: text of `/proc/PID/fd/N`.
    ///   - status: fstat(2) of the descriptor.
    init(link: String, status: FileStatus) {
        if link.hasPrefix("anon_inode:") {
            self = Self.anonymous(String(link.dropFirst("anon_inode:".count)))
        } else if let special = Self.special(link) {
            self = special
        } else {
            switch status.kind {
            case .regular, .directory, .symbolicLink: self = .path
            case .fifo: self = .fifo
            case .socket: self = .refused(.socket)
            case .characterDevice: self = Self.character(status.representedDevice, link: link)
            case .blockDevice: self = .refused(.device)
            case .other: self = .refused(.anonymousInode)
            }
        }
    }

    /// The kinds that an anon_inode names.
    static func anonymous(_ name: String) -> Self {
        switch name {
        case "[eventfd]": .eventfd
        case "[eventpoll]": .epoll
        case "[timerfd]": .timerfd
        case "[signalfd]": .signalfd
        case "[userfaultfd]": .refused(.userfaultfd)
        case "[io_uring]": .refused(.ioUring)
        case "inotify", "[fanotify]": .refused(.fileNotification)
        case "[perf_event]": .refused(.performanceCounter)
        case "[pidfd]": .refused(.pidfd)
        case "btf": .refused(.bpf)
        case _ where name.hasPrefix("bpf") || name.hasPrefix("[bpf"): .refused(.bpf)
        case _ where name.hasPrefix("kvm"): .refused(.kvm)
        default: .refused(.anonymousInode)
        }
    }

    /// Links that are no path: `socket:[1]`, `/memfd:name (deleted)`.
    private static func special(_ link: String) -> Self? {
        if link.hasPrefix("/memfd:") { return .memfd }
        if link.hasPrefix("/secretmem") { return .refused(.secretMemory) }
        if link.hasPrefix("/dmabuf:") { return .refused(.device) }
        guard !link.hasPrefix("/"), link.hasSuffix("]"), let bracket = link.firstIndex(of: "[") else { return nil }
        return switch link[..<bracket] {
        case "socket:": .refused(.socket)
        case "pipe:": .pipe
        case "pidfd:": .refused(.pidfd)
        default: .refused(.namespaceDescriptor)
        }
    }

    /// A device by its number as stat(2) shows it.
    private static func character(_ device: UInt64, link: String) -> Self {
        let (major, minor) = deviceNumbers(device)
        if major == 1 && portableDevices.contains(minor) { return .device }
        // TTY 4, /dev/tty 5, UNIX98 ptys 136 to 143.
        if major == 4 || major == 5 || (136...143).contains(major) { return .terminal }
        return link == "/dev/kvm" ? .refused(.kvm) : .refused(.device)
    }

    /// gnu_dev_major(3) and gnu_dev_minor(3).
    static func deviceNumbers(_ device: UInt64) -> (major: UInt64, minor: UInt64) {
        let major = (device >> 8 & 0xfff) | (device >> 32 & 0xffff_f000)
        let minor = (device & 0xff) | (device >> 12 & 0xffff_ff00)
        return (major, minor)
    }
}
