// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Userfaultfd

/// A victim with a userfaultfd of its own in the hands of the test, as a restore has it.
final class RegisteredVictim {
    let process: TestProcess
    let uffd: Userfaultfd
    let events = UserfaultEvents()
    /// Pages 0 to 15 of it hold their number + 1 in all bytes.
    let buffer: TransferBuffer
    static let page = PageSize.baseBytes

    init(features: UserfaultFeatures = .lazyRestore) throws {
        process = try TestProcess(BuiltProduct.victim, ["uffd-commands"], options: .init(input: .pipe))
        guard let line = try process.output?.next(), line.hasPrefix("ready") else { throw TestFailure("no victim") }
        uffd = try Userfaultfd.adopt(Self.takeDescriptor(process.pid), features: features)
        buffer = try TransferBuffer(capacity: 16 * Self.page)
        for page in 0..<16 {
            buffer.withMutableBytes(page * Self.page..<(page + 1) * Self.page) { bytes in
                for index in bytes.indices { bytes[index] = UInt8(page + 1) }
            }
        }
    }

    /// userfaultfd(2) in the victim, taken out of it and closed there.
    private static func takeDescriptor(_ pid: Int32) throws -> OwnedDescriptor {
        let group = try TraceeGroup.freeze(pid, deadline: .after(patience))
        defer { try? group.thaw() }
        let injector = try SystemCallInjector(memory: ProcessMemory(pid: pid))
        let number = try injector.call(SYS_userfaultfd, UInt64(O_CLOEXEC | O_NONBLOCK), on: group.leader)
        let taken = try ProcessDescriptor(pid: pid).duplicate(Int32(number))
        _ = try injector.call(SYS_close, UInt64(number), on: group.leader)
        return taken
    }

    /// A second userfaultfd of the same process.
    func another() throws -> Userfaultfd {
        try Userfaultfd.adopt(Self.takeDescriptor(process.pid), features: .lazyRestore)
    }

    /// Tells the victim to do something.
    func tell(_ command: String, _ arguments: UInt64...) throws {
        let words = arguments.map { String($0, radix: 16) }
        try process.input?.write(([command] + words).joined(separator: " ") + "\n")
    }

    /// What the victim answers.
    func answer() throws -> Int64 {
        guard let line = try process.output?.next(), let value = UInt64(line, radix: 16) else {
            throw TestFailure("the victim gave no answer")
        }
        return Int64(bitPattern: value)
    }

    func map(_ pages: UInt64, shared: Bool = false, modes: RegistrationModes = .missing) throws -> UInt64 {
        try tell(shared ? "map-shared" : "map", pages)
        let start = try UInt64(answer())
        try uffd.register(range(start, pages), modes: modes)
        return start
    }

    func range(_ start: UInt64, _ pages: UInt64) -> AddressRange {
        AddressRange(VirtualAddress(start), VirtualAddress(start + pages * PageSize.base))
    }

    /// The next messages of a userfaultfd.
    static func next(_ uffd: borrowing Userfaultfd, _ events: UserfaultEvents) throws -> [UserfaultEvent] {
        var found: [UserfaultEvent] = []
        let end = ContinuousClock.now + patience
        while found.isEmpty {
            guard ContinuousClock.now < end else { throw TestFailure("no message within \(patience)") }
            let count = try uffd.readEvents(into: events)
            found = (0..<count).map { events[$0] }
            if found.isEmpty { usleep(500) }
        }
        return found
    }

    func next() throws -> [UserfaultEvent] {
        try Self.next(uffd, events)
    }

    /// Waits for a fault on a page of a userfaultfd.
    func expectFault(at address: UInt64) throws -> PageFault {
        guard case .pageFault(let fault) = try next().first, fault.address.rawValue & ~0xfff == address & ~0xfff else {
            throw TestFailure("no fault at \(VirtualAddress(address))")
        }
        return fault
    }

    /// Installs page `number` of the buffer.
    @discardableResult
    func install(_ number: Int, at address: UInt64, pages: Int = 1, modes: CopyModes = []) throws -> CopyOutcome {
        try uffd.copy(
            from: buffer,
            at: number * Self.page,
            to: VirtualAddress(address),
            pages: pages,
            modes: modes
        )
    }
}
