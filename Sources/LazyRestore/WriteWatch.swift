// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import LinuxSystem
internal import Logging
internal import Paging
internal import Userfaultfd

/// Keeps a process tracked once every page is there.
///
/// Nothing is owed any more, so a page that is missing holds zeros, and closing the userfaultfd is right at any moment: it ends the
/// registrations and lets go whoever waits. Until then its events are read, since the process waits for that in fork(2), mremap(2),
/// munmap(2) and madvise(2), and zeros are given, since missing mode cannot be ended alone: the kernel (userfaultfd_register_range)
/// passes over a mapping that has the modes asked for and more, and unregistering would take the marks of pages away.
final class WriteWatch: Sendable {
    /// The lowest page that a program may have mapped; most have nothing there.
    private static let lowest = AddressRange(VirtualAddress(0x10000), VirtualAddress(0x10000 + PageSize.base))

    /// nil when closed.
    private let space: Lock<AddressSpaceHandle?>
    private let written: Lock<WrittenPages>
    private let stop: EventDescriptor
    private let logger: Logger

    /// Takes over the events of a process from the thread that answered its faults, which has ended.
    ///
    /// - Parameters:
    ///   - space: nobody else reads its events.
    ///   - pid: the process as this program sees it.
    ///   - logger: told when the tracking ends by itself.
    init(_ space: AddressSpaceHandle, pid: Int32, logger: Logger) throws {
        self.space = Lock(space)
        written = Lock(try WrittenPages(pid))
        stop = try EventDescriptor()
        self.logger = logger
        try NamedThread("writes-\(pid)") { [self] in readEvents() }.detach()
        // Faults that the former thread has read and not answered come again.
        try? space.uffd.wake(Userfaultfd.everything)
    }

    /// Pages that were written since they arrived; nil when the process has ended or executes another program.
    func count() -> UInt64? {
        space.withLock { space in
            guard let space, let pages = try? written.withLock({ try $0.count() }) else { return nil }
            // An address space that is gone has no written pages. What this may install is a page of zeros where zeros are missing.
            return (try? space.uffd.zero(Self.lowest)) == .targetGone ? nil : pages
        }
    }

    /// Takes everything out of the process.
    func end() {
        close()
        stop.signal()
    }

    private func close() {
        space.withLock { $0 = nil }
    }
}

// MARK: - Events

extension WriteWatch {
    private func readEvents() {
        let events = UserfaultEvents()
        do throws(SystemCallError) {
            let poller = try Poller()
            try poller.add(stop.descriptor, token: 0)
            try space.withLock { space throws(SystemCallError) in
                // Closed already, perhaps.
                if let space { try poller.add(space.uffd.descriptor, token: 1) }
            }
            while true {
                while try read(events) > 0 {}
                let count = try poller.wait(until: .never)
                for index in 0..<count where poller[index].token == 0 { return }
            }
        } catch {
            // A process whose events nobody reads would hang.
            close()
            logger.error("The process is not tracked any more", metadata: ["reason": "\(error)"])
        }
    }

    private func read(_ events: UserfaultEvents) throws(SystemCallError) -> Int {
        try space.withLock { space throws(SystemCallError) in
            guard let space else { return 0 }
            let count = try space.uffd.readEvents(into: events)
            for index in 0..<count { enter(events[index], space.uffd) }
            return count
        }
    }

    private func enter(_ event: UserfaultEvent, _ uffd: borrowing Userfaultfd) {
        switch event {
        case .pageFault(let fault):
            let page = AddressRange(pageNumbers: fault.address.pageNumber..<fault.address.pageNumber + 1)
            // Whatever is in its way, the thread tries again.
            if (try? uffd.zero(page)) != .installed { try? uffd.wake(page) }
        case .fork(let descriptor):
            // The child is not tracked, and nothing is owed to it.
            _ = OwnedDescriptor(adopting: descriptor)
        case .remap, .remove, .unmap, .unknown: return
        }
    }
}
