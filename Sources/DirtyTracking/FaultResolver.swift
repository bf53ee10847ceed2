// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import Userfaultfd

/// Ranges that mremap(2) has taken pages from or brought pages to, marks and all; bounded.
struct MovedRanges: Sendable {
    /// More ranges than these count as all of the address space.
    static let limit = 1024

    private(set) var ranges: [AddressRange] = []
    private(set) var isEverything = false

    var isEmpty: Bool { ranges.isEmpty && !isEverything }

    mutating func insert(_ range: AddressRange) {
        guard !isEverything else { return }
        guard ranges.count < Self.limit else {
            self = MovedRanges()
            isEverything = true
            return
        }
        ranges.append(range)
    }

    func intersects(_ range: AddressRange) -> Bool {
        isEverything || ranges.contains { $0.intersection(range) != nil }
    }

    mutating func formUnion(_ other: MovedRanges) {
        if other.isEverything {
            self = other
        } else {
            for range in other.ranges { insert(range) }
        }
    }
}

/// Lifts the protection of pages that are written to, in a thread of its own, so that a writer waits for nothing else.
///
/// It remembers no pages: what is not protected any more is found by the next round. Ends with its owner.
final class FaultResolver: Sendable {
    private let shared: Shared
    private let thread: Lock<NamedThread?>

    /// Starts to resolve faults of a userfaultfd.
    init(pid: Int32, _ uffd: consuming Userfaultfd) throws(SystemCallError) {
        let shared = try Shared(uffd)
        self.shared = shared
        thread = Lock(try NamedThread("wp-\(pid)") { shared.run() })
    }

    deinit {
        shared.stop.signal()
        // The last reference may be dropped anywhere but on the thread itself, which has none.
        thread.withLock { thread in
            if let thread = thread.take() { thread.join() }
        }
    }

    /// What has moved since it was asked last; everything that has happened before the process was stopped is in it.
    func takeMoved() -> MovedRanges {
        shared.moved.withLock { moved in
            defer { moved = MovedRanges() }
            return moved
        }
    }

    /// What the thread works with.
    private final class Shared: Sendable {
        let stop: EventDescriptor
        let moved = Lock(MovedRanges())
        private let uffd: Userfaultfd

        init(_ uffd: consuming Userfaultfd) throws(SystemCallError) {
            stop = try EventDescriptor()
            self.uffd = uffd
        }

        private enum Token {
            static let stop: UInt64 = 0
            static let uffd: UInt64 = 1
        }

        /// Until it is told to stop, or the address space is gone.
        ///
        /// No error ends it: threads of the process would wait for ever.
        func run() {
            let events = UserfaultEvents()
            while let poller = try? Poller(capacity: 2) {
                do {
                    try poller.add(stop.descriptor, token: Token.stop)
                    try poller.add(uffd.descriptor, token: Token.uffd)
                    try serve(poller, events)
                    return
                } catch {
                    usleep(Self.breath)
                }
            }
        }

        /// Microseconds before something that failed is tried again.
        private static let breath: UInt32 = 1000

        private func serve(_ poller: Poller, _ events: UserfaultEvents) throws(SystemCallError) {
            while true {
                let ready = try poller.wait()
                guard !(0..<ready).contains(where: { poller[$0].token == Token.stop }) else { return }
                let count = try read(events)
                for index in 0..<count {
                    guard case .pageFault(let fault) = events[index] else { continue }
                    guard try resolve(fault, events) else { return }
                }
            }
        }

        /// A move is noted before the lock is free, and so before anybody who has stopped the process asks for it.
        private func read(_ events: UserfaultEvents) throws(SystemCallError) -> Int {
            try moved.withLock { (moved) throws(SystemCallError) -> Int in
                let count = try uffd.readEvents(into: events)
                for index in 0..<count {
                    guard case .remap(let from, let to, let byteCount) = events[index] else { continue }
                    moved.insert(AddressRange(from, VirtualAddress(from.rawValue &+ byteCount)))
                    moved.insert(AddressRange(to, VirtualAddress(to.rawValue &+ byteCount)))
                }
                return count
            }
        }

        /// False when the address space is gone.
        private func resolve(_ fault: PageFault, _ events: UserfaultEvents) throws(SystemCallError) -> Bool {
            let start = fault.address.pageStart
            let page = AddressRange(start, VirtualAddress(start.rawValue + PageSize.base))
            switch try uffd.writeProtect(page, armed: false) {
            case .installed: return true
            case .targetGone: return false
            case .interrupted, .vanished, .alreadyPresent, .partial:
                // The mapping is changing: the thread meets what has become of it, and comes again if it must.
                try uffd.wake(page)
                return true
            }
        }
    }
}
