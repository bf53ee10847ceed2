// SPDX-License-Identifier: Apache-2.0
import Glibc
import LinuxSystem
import Paging
import ProcessTrace
import Userfaultfd

/// Answers the faults of a copy from the frozen original, on a thread of its own.
///
/// Keeps no books: good for processes that neither fork nor move or discard mappings while pages are missing.
final class FaultService: Sendable {
    private let stopped = Lock(false)
    private let served = Lock(0)
    private let thread: Lock<NamedThread?>

    private final class Holder: Sendable {
        let uffd: Userfaultfd
        /// - Parameter memory: the original; nil when all its pages went ahead, and the rest is zeros.
        init(_ uffd: consuming Userfaultfd) { self.uffd = uffd }
    }

    /// Pages that were asked for.
    var faults: Int { served.withLock { $0 } }

    /// - Parameter memory: the original; nil when all its pages went ahead, and the rest is zeros.
    init(_ uffd: borrowing Userfaultfd, from memory: ProcessMemory?) throws {
        let holder = Holder(try uffd.duplicate())
        let stopped = stopped
        let served = served
        let thread = try NamedThread("fault-service") {
            Self.serve(holder.uffd, memory, stopped, served)
        }
        self.thread = Lock(thread)
    }

    private static func serve(
        _ uffd: borrowing Userfaultfd,
        _ memory: ProcessMemory?,
        _ stopped: Lock<Bool>,
        _ served: Lock<Int>
    ) {
        guard let buffer = try? TransferBuffer(capacity: 4096) else { return }
        let events = UserfaultEvents()
        while !stopped.withLock({ $0 }) {
            guard
                (try? DescriptorIO.wait(for: .readable, on: uffd.descriptor, until: .after(.milliseconds(50)))) == true
            else { continue }
            guard let count = try? uffd.readEvents(into: events) else { return }
            for index in 0..<count {
                guard case .pageFault(let fault) = events[index] else { continue }
                let page = VirtualAddress(fault.address.rawValue & ~4095)
                let range = AddressRange(page, VirtualAddress(page.rawValue + 4096))
                let read = (try? memory?.read(page, count: 4096, into: buffer, at: 0)) ?? 0
                if read == 4096 {
                    _ = try? uffd.copy(from: buffer, at: 0, to: page, pages: 1, modes: [])
                } else {
                    _ = try? uffd.zero(range)
                }
                _ = try? uffd.wake(range)
                served.withLock { $0 += 1 }
            }
        }
    }

    func stop() {
        stopped.withLock { $0 = true }
        thread.withLock { thread in
            if let running = thread.take() { running.join() }
        }
    }
}
