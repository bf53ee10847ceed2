// SPDX-License-Identifier: Apache-2.0
import LinuxSystem
import Paging
import ProcessImage
import Reporting
import TestSupport

@testable import PageServer

/// A process that exists in the test only: what a session does to it is written down.
final class FakeProcess: SourceProcess, FrozenSource, Sendable {
    /// What was done, in order.
    enum Deed: Equatable {
        case examined, tracked, untracked, frozen, committed, thawed, killed, leftStopped, continued
    }

    private let deeds = Lock<[Deed]>([])
    let pages: FakeMemory
    let eager: [EagerPages]
    private let nextEager = Lock(0)
    private let refusal: SessionFailure?
    private let freezeRefusal: SessionFailure?
    private let tracker: FakeTracker?

    init(
        _ pages: FakeMemory = FakeMemory(),
        eager: [EagerPages] = [],
        refusal: SessionFailure? = nil,
        freezeRefusal: SessionFailure? = nil,
        tracker: FakeTracker? = nil
    ) {
        self.tracker = tracker
        self.pages = pages
        self.eager = eager
        self.refusal = refusal
        self.freezeRefusal = freezeRefusal
    }

    var done: [Deed] { deeds.withLock { $0 } }
    var name: String { "process 1" }
    var freezeBegan: UInt64 { MonotonicTime.now.nanoseconds }
    var encodedDescription: [UInt8] { [UInt8](repeating: 0x5a, count: 3 << 20) }
    var memory: any SourceMemory { pages }
    var guards: [PageRun] { pages.guards.map { PageRun($0) } }

    private func did(_ deed: Deed) { deeds.withLock { $0.append(deed) } }

    func examine() throws(SessionFailure) {
        did(.examined)
        if let refusal { throw refusal }
    }

    func track() throws(SessionFailure) -> (any SourceTracker)? {
        guard let tracker else { return nil }
        did(.tracked)
        tracker.onEnd { [self] in did(.untracked) }
        return tracker
    }

    func freeze(sharedMemoryAhead: Bool) throws(SessionFailure) -> any FrozenSource {
        if let freezeRefusal { throw freezeRefusal }
        did(.frozen)
        return self
    }

    func nextEagerPages() throws(SessionFailure) -> EagerPages? {
        let index = nextEager.withLock { next in
            next += 1
            return next - 1
        }
        return index < eager.count ? eager[index] : nil
    }

    func commitGranted() throws(SessionFailure) { did(.committed) }
    func thaw() throws(SessionFailure) { did(.thawed) }
    func kill() throws(SessionFailure) { did(.killed) }
    func leaveStopped() throws(SessionFailure) { did(.leftStopped) }
    func continueAsClone() throws(SessionFailure) { did(.continued) }
}

/// Pages by number; a page of data has bytes that follow from its number.
struct FakeMemory: SourceMemory {
    var data: PageSet = PageSet()
    var zero: PageSet = PageSet()
    /// Guards that are known under the freeze.
    var guards: [AddressRange] = []
    /// Guards that only the walk behind the freeze meets.
    var lateGuards: [AddressRange] = []
    /// What the walk waits for before it begins.
    var walkMayBegin: EventDescriptor?

    /// What exists.
    var existing: PageSet {
        var all = data
        all.formUnion(zero)
        return all
    }

    func makeReader() throws(SessionFailure) -> any SourceMemoryReader {
        Reader(memory: self)
    }

    /// How often the pages have been written.
    var age: UInt64 = 0

    /// The bytes of a page.
    static func bytes(of page: UInt64, age: UInt64 = 0) -> [UInt8] {
        var generator = SeededGenerator(seed: page ^ age << 40)
        return (0..<512).flatMap { _ in
            let word = generator.next()
            return (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) }
        }
    }

    /// The digest over everything that exists.
    var digest: PageDigest {
        var digest = PageDigest()
        var position: UInt64 = 0
        while let run = data.nextRun(from: position) {
            for page in run { digest.add(address: VirtualAddress(page << 12), page: Self.bytes(of: page).span) }
            position = run.upperBound
        }
        position = 0
        while let run = zero.nextRun(from: position) {
            for page in run { digest.addZeros(address: VirtualAddress(page << 12)) }
            position = run.upperBound
        }
        return digest
    }

    private final class Reader: SourceMemoryReader {
        private let memory: FakeMemory

        init(memory: FakeMemory) {
            self.memory = memory
        }

        func read(
            _ address: VirtualAddress,
            count: Int,
            into buffer: TransferBuffer,
            at offset: Int
        ) throws(SessionFailure) -> UInt64 {
            var mask: UInt64 = 0
            for index in 0..<count where memory.data.contains(address.rawValue >> 12 + UInt64(index)) {
                mask |= 1 << UInt64(index)
                let bytes = FakeMemory.bytes(of: address.rawValue >> 12 + UInt64(index), age: memory.age)
                let start = offset + index * 4096
                buffer.withMutableBytes(start..<start + 4096) { span in
                    for position in bytes.indices { span[position] = bytes[position] }
                }
            }
            return mask
        }

        func survey(existing: (AddressRange) -> Void, guards: (AddressRange) -> Void) throws(SessionFailure) {
            _ = try? memory.walkMayBegin?.wait(until: .after(patience))
            for range in memory.guards + memory.lateGuards { guards(range) }
            var position: UInt64 = 0
            while let run = memory.existing.nextRun(from: position) {
                existing(AddressRange(pageNumbers: run))
                position = run.upperBound
            }
        }

        func look(at address: VirtualAddress, count: Int) throws(SessionFailure) -> (existing: UInt64, guards: UInt64) {
            var bits = (existing: UInt64(0), guards: UInt64(0))
            for index in 0..<UInt64(count) {
                let page = VirtualAddress(pageNumber: address.pageNumber + index)
                if memory.existing.contains(page.pageNumber) { bits.existing |= 1 << index }
                let isGuard = (memory.guards + memory.lateGuards).contains { $0.contains(page) }
                if isGuard { bits.guards |= 1 << index }
            }
            return bits
        }
    }
}
