// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
public import LinuxSystem
public import Paging

/// What became of an attempt to install pages.
public enum CopyOutcome: Hashable, Sendable {
    /// All pages are there and whoever waited for them runs.
    case installed
    /// The first page was there already; nothing was installed and nobody was woken.
    case alreadyPresent
    /// The first pages are there; the next one was present already, or the address space changes: see `interrupted`.
    case partial(installedPages: Int)
    /// The address space is about to change (a fork, a move, an unmap): its event has to be read first.
    case interrupted
    /// The range is not registered any more, or crosses the border of two mappings; nothing was installed.
    case vanished
    /// The address space is gone: the process has ended or executed another program.
    case targetGone
}

/// A userfaultfd of another process.
///
/// When the last descriptor of one is closed, threads that wait for a page, and all that touch a missing one later, read zeros.
/// So somebody else must hold a duplicate, or every page must have been accounted for, before one of these is let go.
public struct Userfaultfd: ~Copyable, Sendable {
    private let owned: OwnedDescriptor
    /// What was agreed with the kernel.
    public let features: UserfaultFeatures

    private init(owned: consuming OwnedDescriptor, features: UserfaultFeatures) {
        self.owned = owned
        self.features = features
    }

    /// The descriptor, to lend to poll(2) or to send to another process.
    public var descriptor: Int32 {
        owned.rawValue
    }

    // MARK: Making

    /// Takes over a userfaultfd on which nothing has been agreed yet.
    ///
    /// The events of forks are granted by who agrees (CAP_SYS_PTRACE), not by who made the descriptor. The corresponding ioctl is
    /// `UFFDIO_API`.
    /// - Throws: ``SystemCallError`` with EINVAL when the kernel lacks a feature, EPERM when this user may not have it.
    public static func adopt(
        _ descriptor: consuming OwnedDescriptor,
        features: UserfaultFeatures
    ) throws(SystemCallError) -> Userfaultfd {
        var bits = features.rawValue
        var ioctls: UInt64 = 0
        // SAFETY: the shim writes both words.
        let result = unsafe clinux_uffd_api(descriptor.rawValue, &bits, &ioctls)
        try checked("UFFDIO_API", result, operand: "features 0x\(String(features.rawValue, radix: 16))")
        return Userfaultfd(owned: descriptor, features: features)
    }

    /// Takes over a userfaultfd on which `features` have been agreed already: that of a forked child, or a duplicate.
    public static func adoptAgreed(
        _ descriptor: consuming OwnedDescriptor,
        features: UserfaultFeatures
    ) -> Userfaultfd {
        Userfaultfd(owned: descriptor, features: features)
    }

    /// Whether a descriptor of this program is a userfaultfd.
    public static func isOne(_ descriptor: Int32) -> Bool {
        let link = try? FileReading.link("/proc/self/fd/\(descriptor)")
        return link?.elementsEqual("anon_inode:[userfaultfd]".utf8) == true
    }

    /// What the running kernel offers, asked on a userfaultfd of this program that is closed at once.
    public static func offeredFeatures() throws(SystemCallError) -> UserfaultFeatures {
        let flags = O_CLOEXEC | O_NONBLOCK | clinux_UFFD_USER_MODE_ONLY
        let probe = OwnedDescriptor(adopting: try checked("userfaultfd", clinux_userfaultfd(flags)))
        var bits: UInt64 = 0
        var ioctls: UInt64 = 0
        // SAFETY: the shim writes both words.
        try checked("UFFDIO_API", unsafe clinux_uffd_api(probe.rawValue, &bits, &ioctls))
        return UserfaultFeatures(rawValue: bits)
    }

    /// Another holder of the same userfaultfd.
    public func duplicate() throws(SystemCallError) -> Userfaultfd {
        Userfaultfd(owned: try owned.duplicate(), features: features)
    }

    /// Gives the descriptor away; the receiver closes it.
    public consuming func release() -> OwnedDescriptor {
        owned
    }

    /// Makes reads return at once when there is no message, which a descriptor made by an injected call need not do.
    public func setNonBlocking() throws(SystemCallError) {
        let number = descriptor
        let flags = try systemCall("fcntl") { fcntl(number, F_GETFL) }
        try systemCall("fcntl") { fcntl(number, F_SETFL, flags | O_NONBLOCK) }
    }

    // MARK: Registration

    /// Registers mappings; modes of an earlier registration are replaced.
    ///
    /// The corresponding ioctl is `UFFDIO_REGISTER`.
    /// - Throws: ``SystemCallError`` with EBUSY when another userfaultfd has the range, EINVAL when it cannot be registered.
    public func register(_ range: AddressRange, modes: RegistrationModes) throws(SystemCallError) {
        var ioctls: UInt64 = 0
        // SAFETY: the shim writes one word.
        let result = unsafe clinux_uffd_register(
            descriptor,
            range.lowerBound.rawValue,
            range.byteCount,
            modes.rawValue,
            &ioctls
        )
        try checked("UFFDIO_REGISTER", result, operand: "\(range)")
    }

    /// Ends a registration; whoever waits for a page of it, or touches a missing one later, reads zeros.
    ///
    /// The corresponding ioctl is `UFFDIO_UNREGISTER`.
    public func unregister(_ range: AddressRange) throws(SystemCallError) {
        let result = clinux_uffd_unregister(descriptor, range.lowerBound.rawValue, range.byteCount)
        try checked("UFFDIO_UNREGISTER", result, operand: "\(range)")
    }

    // MARK: Pages

    /// Installs pages from a buffer and wakes whoever waits for them.
    ///
    /// A page that a guard region (MADV_GUARD_INSTALL) occupies is overwritten: the caller must know those. The corresponding
    /// ioctl is `UFFDIO_COPY`.
    /// - Precondition: `address` and `offset` are multiples of the page size.
    public func copy(
        from buffer: TransferBuffer,
        at offset: Int,
        to address: VirtualAddress,
        pages: Int,
        modes: CopyModes = []
    ) throws(SystemCallError) -> CopyOutcome {
        let byteCount = pages * PageSize.baseBytes
        var copied: Int64 = 0
        // SAFETY: pointer(at:count:) checks the range; the kernel reads it during the call only.
        let result = unsafe clinux_uffd_copy(
            descriptor,
            address.rawValue,
            buffer.pointer(at: offset, count: byteCount),
            UInt64(byteCount),
            modes.rawValue,
            &copied
        )
        return try outcome("UFFDIO_COPY", result, copied, address, pages)
    }

    /// The address of a page of this program that cannot be read, for as long as it lives; 0 when there is none.
    ///
    /// A low address would do where vm.mmap_min_addr is low enough; below it the kernel refuses before it looks at anything.
    private static let unreadablePage: UInt = {
        // SAFETY: a new mapping at an address that the kernel chooses; nobody gets a pointer to it but the kernel.
        let page = unsafe mmap(nil, PageSize.baseBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        return unsafe page == MAP_FAILED ? 0 : UInt(bitPattern: page)
    }()

    /// Whether a page belongs to a mapping that is registered, with this userfaultfd or another one; nothing is installed.
    ///
    /// UFFDIO_COPY looks at the mapping before it looks at the source, which is a page that cannot be read. Nil when the kernel cannot
    /// tell at the moment.
    public func isRegistered(_ page: VirtualAddress) -> Bool? {
        var copied: Int64 = 0
        guard let nowhere = unsafe UnsafeMutableRawPointer(bitPattern: Self.unreadablePage) else { return nil }
        // SAFETY: the kernel finds nothing at the address, and reads nothing.
        let result = unsafe clinux_uffd_copy(
            descriptor,
            page.rawValue,
            nowhere,
            PageSize.base,
            CopyModes.doNotWake.rawValue,
            &copied
        )
        switch -Int32(truncatingIfNeeded: result) {
        case EFAULT, EEXIST: return true
        case ENOENT: return false
        default: return nil
        }
    }

    /// Installs the zero page and wakes whoever waits for it.
    ///
    /// The corresponding ioctl is `UFFDIO_ZEROPAGE`.
    public func zero(_ range: AddressRange) throws(SystemCallError) -> CopyOutcome {
        var zeroed: Int64 = 0
        // SAFETY: the shim writes one word.
        let result = unsafe clinux_uffd_zeropage(
            descriptor,
            range.lowerBound.rawValue,
            range.byteCount,
            0,
            &zeroed
        )
        return try outcome("UFFDIO_ZEROPAGE", result, zeroed, range.lowerBound, Int(range.byteCount / PageSize.base))
    }

    /// Makes whoever touches the pages get SIGBUS (or EFAULT in a system call) until they are installed after all.
    ///
    /// The corresponding ioctl is `UFFDIO_POISON` (Linux 6.6).
    public func poison(_ range: AddressRange) throws(SystemCallError) -> CopyOutcome {
        var poisoned: Int64 = 0
        // SAFETY: the shim writes one word.
        let result = unsafe clinux_uffd_poison(
            descriptor,
            range.lowerBound.rawValue,
            range.byteCount,
            0,
            &poisoned
        )
        return try outcome("UFFDIO_POISON", result, poisoned, range.lowerBound, Int(range.byteCount / PageSize.base))
    }

    /// Makes threads that wait in a range try again; those that still miss a page ask for it again.
    ///
    /// The corresponding ioctl is `UFFDIO_WAKE`.
    public func wake(_ range: AddressRange) throws(SystemCallError) {
        let result = clinux_uffd_wake(descriptor, range.lowerBound.rawValue, range.byteCount)
        try checked("UFFDIO_WAKE", result, operand: "\(range)")
    }

    /// All addresses of user space, for ``wake(_:)`` after a takeover.
    public static let everything = AddressRange(VirtualAddress(0), VirtualAddress(0x7fff_ffff_f000))

    /// Arms or lifts write protection of pages.
    ///
    /// The corresponding ioctl is `UFFDIO_WRITEPROTECT`.
    /// - Returns: `installed`, `interrupted`, `vanished` or `targetGone`.
    public func writeProtect(_ range: AddressRange, armed: Bool) throws(SystemCallError) -> CopyOutcome {
        let result = clinux_uffd_writeprotect(
            descriptor,
            range.lowerBound.rawValue,
            range.byteCount,
            armed ? 1 : 0
        )
        return try outcome("UFFDIO_WRITEPROTECT", result, 0, range.lowerBound, 0)
    }

    private func outcome(
        _ call: String,
        _ result: Int32,
        _ bytes: Int64,
        _ address: VirtualAddress,
        _ pages: Int
    ) throws(SystemCallError) -> CopyOutcome {
        switch -result {
        case 0: return .installed
        case EEXIST: return .alreadyPresent
        // The kernel says EAGAIN for both reasons to stop; only in the middle can it be a page that is present.
        case EAGAIN: return bytes > 0 ? .partial(installedPages: Int(bytes) / PageSize.baseBytes) : .interrupted
        case ENOENT: return .vanished
        case ESRCH: return .targetGone
        default:
            let operand = "\(pages) pages at \(address)"
            throw SystemCallError(call, Errno(rawValue: -result), operand: operand)
        }
    }

    // MARK: Events

    /// Whether an event (a fork, a move, a removal) is waiting to be read, or is about to.
    ///
    /// The kernel counts it before it can be read and until its thread goes on, and refuses installs meanwhile, before it looks at what is
    /// asked for: an empty range here.
    public func isChanging() throws(SystemCallError) -> Bool {
        var zeroed: Int64 = 0
        // SAFETY: the shim writes one word.
        let result = unsafe clinux_uffd_zeropage(descriptor, 0, 0, 0, &zeroed)
        if result == -EAGAIN { return true }
        guard result == -EINVAL else { throw SystemCallError("UFFDIO_ZEROPAGE", Errno(rawValue: -result)) }
        return false
    }

    /// Reads messages.
    ///
    /// Events of the address space come before faults that follow them; the process waits at a fork, a move and an unmap until
    /// their message has been read.
    /// - Parameters:
    ///   - events: where they are from then on.
    ///   - journal: notes those that are no page faults before this returns.
    ///   - space: of whom the journal notes them.
    ///   - limit: most messages.
    /// - Returns: How many were read; 0 when there is none.
    public func readEvents(
        into events: UserfaultEvents,
        noting journal: EventJournal? = nil,
        space: UInt32 = 0,
        limit: Int = UserfaultEvents.capacity
    ) throws(SystemCallError) -> Int {
        let number = descriptor
        let limit = min(limit, UserfaultEvents.capacity)
        events.count = 0
        // SAFETY: the kernel fills at most `limit` messages of the array's own storage during the closure.
        let result = unsafe events.bytes.withUnsafeMutableBytes { buffer -> Int64 in
            if let journal { return unsafe journal.read(number, space: space, limit: limit, into: buffer) }
            guard let start = buffer.baseAddress else { return 0 }
            return unsafe clinux_uffd_read(number, start, limit)
        }
        guard result != -Int64(EAGAIN), result != -Int64(EINTR) else { return 0 }
        events.count = Int(try checked("read", result, operand: "userfaultfd \(number)"))
        return events.count
    }
}
