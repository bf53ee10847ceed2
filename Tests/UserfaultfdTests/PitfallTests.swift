// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LazyPages
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing
internal import Userfaultfd

@testable internal import LazyRestore

/// What other handlers of page faults have stumbled over, each with a live kernel and the books that a restore keeps.
///
/// Those that are not here have tests elsewhere: "Pitfalls" in the article about testing says where.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: userfaultfd of other processes"))
struct PitfallTests {
    private static let page = PageSize.base

    /// A victim that owes eight pages, with the books over them.
    private static func withMemory(_ body: (RegisteredVictim, UInt64, inout MemoryState) throws -> Void) throws {
        let victim = try RegisteredVictim()
        try victim.uffd.setNonBlocking()
        let start = try victim.map(8)
        var state = MemoryState(
            segments: [Segment(victim.range(start, 8))],
            uffd: try victim.uffd.duplicate(),
            pid: victim.process.pid
        )
        try state.mapArrived([PageRun(address: VirtualAddress(start), count: 8)], isLast: true)
        try body(victim, start, &state)
        state.close()
    }

    private static func waitForMessage(_ victim: RegisteredVictim) throws {
        let arrived = try DescriptorIO.wait(for: .readable, on: victim.uffd.descriptor, until: .after(patience))
        try #require(arrived, "no message")
    }

    /// Installs pages 0..<count of the victim's buffer as they came from the source.
    private static func deliver(
        _ first: UInt64,
        _ count: UInt32,
        at start: UInt64,
        from buffer: TransferBuffer,
        _ state: inout MemoryState
    ) throws {
        let address = VirtualAddress(start + first * page)
        let arrival = Arrival(address: address, count: count, content: .data)
        _ = try state.arrived(arrival)
        let offset = Int(first) * PageSize.baseBytes
        while true {
            switch try state.installSome(of: arrival, from: buffer, at: offset, limit: 64) {
            case .done: return
            case .more: continue
            case .interrupted: _ = try state.service()
            }
        }
    }

    private static func peek(_ victim: RegisteredVictim, _ address: UInt64) throws -> Int64 {
        try victim.tell("peek", address)
        return try victim.answer()
    }

    /// An event that waits to be read makes every install fail; and madvise(2) waits for it in turn.
    @Test func anInstallReadsTheEventsThatAreInItsWay() throws {
        try Self.withMemory { victim, start, state in
            try victim.tell("remove", start + Self.page, 1)
            try Self.waitForMessage(victim)
            #expect(try victim.install(7, at: start + 7 * Self.page) == .interrupted, "the kernel puts nothing off")
            try Self.deliver(0, 8, at: start, from: victim.buffer, &state)
            #expect(try victim.answer() == 0)
            #expect(try Self.peek(victim, start) == 1)
            #expect(try Self.peek(victim, start + 7 * Self.page) == 8)
            // Given back while its page was on its way.
            try victim.tell("peek", start + Self.page)
            try Self.waitForMessage(victim)
            #expect(try state.service())
            #expect(try victim.answer() == 0)
        }
    }

    /// The kernel hands out faults before events, in whatever order they came.
    @Test func aFaultThatIsReadBeforeARemovalIsAnsweredBehindIt() throws {
        try Self.withMemory { victim, start, state in
            try victim.tell("remove", start + 2 * Self.page, 1)
            try Self.waitForMessage(victim)
            // Somebody else touches the page meanwhile: the kernel itself, for a reader of /proc/PID/mem.
            let found = Lock<UInt64?>(nil)
            let pid = victim.process.pid
            let reader = try NamedThread("reader") {
                let word = try? ProcessMemory(pid: pid).readWords(VirtualAddress(start + 2 * Self.page), count: 1)
                found.withLock { $0 = word?.first ?? .max }
            }
            try wait(for: "the fault") {
                // In /proc the reader waits for the page.
                try namesInFolder("/proc/self/task").contains { tid in
                    let isReader = (try? readText("/proc/self/task/\(tid)/comm")) == "reader\n"
                    return isReader && (try? readText("/proc/self/task/\(tid)/wchan")) == "handle_userfault"
                }
            }
            #expect(try state.service())
            // On a busy machine the thread that removes has not run yet, and the kernel puts the answer off.
            while state.hasDeferredFaults {
                usleep(1000)
                _ = try state.service()
            }
            var requests: [PageRequest] = []
            state.takeRequests(into: &requests)
            #expect(requests.isEmpty, "the source was asked for what the application gave back")
            reader.join()
            #expect(found.withLock { $0 } == 0)
            #expect(try victim.answer() == 0)
        }
    }

    /// UFFDIO_COPY on a page that is there wakes nobody.
    @Test func whoWaitsForAPageThatIsThereIsWoken() throws {
        try Self.withMemory { victim, start, state in
            try victim.tell("peek", start + 3 * Self.page)
            try Self.waitForMessage(victim)
            #expect(try victim.install(5, at: start + 3 * Self.page, modes: .doNotWake) == .installed)
            try Self.deliver(3, 1, at: start, from: victim.buffer, &state)
            #expect(try victim.answer() == 6)
        }
    }

    /// UFFDIO_COPY stops before the first page that is there, and says how far it came in a field and not by its result.
    @Test func aCopyThatStopsHalfwayGoesOnBehindWhatIsThere() throws {
        try Self.withMemory { victim, start, state in
            try victim.install(9, at: start + 2 * Self.page)
            try Self.deliver(0, 8, at: start, from: victim.buffer, &state)
            for page: UInt64 in 0..<8 {
                #expect(try Self.peek(victim, start + page * Self.page) == (page == 2 ? 10 : Int64(page + 1)))
            }
            let isResident = state.books.isResident
            #expect(isResident)
        }
    }

    /// A descriptor may be readable for somebody who has read what there was.
    @Test func aReadThatFindsNothingIsNoError() throws {
        try Self.withMemory { victim, start, state in
            #expect(try !state.service())
            try victim.tell("peek", start)
            try Self.waitForMessage(victim)
            #expect(try state.service())
            #expect(try !state.service())
            try Self.deliver(0, 1, at: start, from: victim.buffer, &state)
            #expect(try victim.answer() == 1)
        }
    }

    /// ESRCH: what comes for a process that has ended is dropped.
    @Test func pagesForAProcessThatHasEndedAreDropped() throws {
        try Self.withMemory { victim, start, state in
            victim.process.end()
            try Self.deliver(0, 8, at: start, from: victim.buffer, &state)
            #expect(try !state.service())
            let spaces = state.books.livingSpaces
            #expect(spaces.isEmpty)
        }
    }

    /// ENOENT: what was unmapped, or mapped anew, gets nothing.
    @Test func pagesForWhatIsMappedNoMoreAreDropped() throws {
        try Self.withMemory { victim, start, state in
            try victim.tell("unmap", start + 4 * Self.page, 2)
            try Self.waitForMessage(victim)
            try Self.deliver(0, 8, at: start, from: victim.buffer, &state)
            #expect(try victim.answer() == 0)
            #expect(try Self.peek(victim, start + 3 * Self.page) == 4)
            #expect(try Self.peek(victim, start + 6 * Self.page) == 7)
            let isResident = state.books.isResident
            #expect(isResident)
        }
    }

    /// EINVAL: a page cannot be installed clean where writes are not watched; so the modes follow the features.
    @Test func aPageIsInstalledCleanOnlyWhereWritesAreWatched() throws {
        let victim = try RegisteredVictim()
        let start = try victim.map(1)
        #expect(throws: SystemCallError.self) { try victim.install(0, at: start, modes: .writeProtect) }
        #expect(AddressSpaceHandle(.process, try victim.uffd.duplicate()).copyModes == [])
    }
}
