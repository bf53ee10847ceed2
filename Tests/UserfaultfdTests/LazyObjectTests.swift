// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LazyPages
internal import LinuxSystem
internal import Paging
internal import TestSupport
internal import Testing
internal import Userfaultfd

@testable internal import LazyRestore

/// Shared memory that arrives lazily, with a live kernel and the books that a restore keeps.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: userfaultfd of other processes"))
struct LazyObjectTests {
    private static let page = PageSize.base
    private static let pages: UInt64 = 8

    /// A victim that owes eight pages of shared memory, of which six exist, and eight private pages above them.
    private final class Owing {
        let victim: RegisteredVictim
        let privateStart: UInt64
        let start: UInt64
        var state: Held

        /// In a class, because `#expect` takes no value that cannot be copied.
        final class Held {
            var memory: MemoryState
            init(_ memory: consuming sending MemoryState) { self.memory = memory }
        }

        init() throws {
            victim = try RegisteredVictim(features: .lazyObjects)
            try victim.uffd.setNonBlocking()
            let process = try victim.another()
            try process.setNonBlocking()
            try victim.tell("map", LazyObjectTests.pages)
            privateStart = try UInt64(victim.answer())
            try process.register(victim.range(privateStart, LazyObjectTests.pages), modes: .missing)
            start = try victim.map(LazyObjectTests.pages, shared: true)
            let range = victim.range(start, LazyObjectTests.pages)
            let path = "/proc/\(victim.process.pid)/map_files/\(range)"
            // SAFETY: a NUL-terminated text that lives through the call.
            let number = unsafe open(path, O_RDWR | O_CLOEXEC)
            try #require(number >= 0, "\(path): errno \(errno)")
            let windows = try ObjectWindows(of: [HeldDescriptor(OwnedDescriptor(adopting: number))])
            let mapping = LazyObjects.Mapping(pages: range.pageNumbers, object: 0, offset: 0)
            let modified = try windows.modified(0)
            let objects = try LazyObjects([mapping], windows, modified: [modified], uffd: victim.uffd.duplicate())
            state = Held(
                MemoryState(
                    segments: [Segment(victim.range(privateStart, LazyObjectTests.pages))],
                    uffd: process,
                    pid: victim.process.pid,
                    objects: objects
                )
            )
            let runs = [
                PageRun(address: VirtualAddress(start), count: 6),
                PageRun(address: VirtualAddress(privateStart), count: 8),
            ]
            try state.memory.mapArrived(runs, isLast: true)
        }

        func address(_ page: UInt64) -> UInt64 { start + page * PageSize.base }

        /// Reads what can be read; whether an event of shared memory waits.
        @discardableResult
        func service() throws -> Bool {
            _ = try state.memory.service()
            return state.memory.objectsAreHeld
        }

        /// Pages as they come from the source, each with its number + 1 in all bytes.
        func arrive(_ first: UInt64, _ count: UInt32, at base: UInt64) throws -> MemoryState.InstallStep {
            let arrival = Arrival(address: VirtualAddress(base + first * PageSize.base), count: count, content: .data)
            _ = try state.memory.arrived(arrival)
            let offset = Int(first) * PageSize.baseBytes
            while true {
                let step = try state.memory.installSome(of: arrival, from: victim.buffer, at: offset, limit: 64)
                guard step == .more else { return step }
            }
        }

        func waitForMessage() throws {
            let arrived = try DescriptorIO.wait(for: .readable, on: victim.uffd.descriptor, until: .after(patience))
            try #require(arrived, "no message")
        }

        /// The next event, read as if it had come between the look and the read.
        func event() throws -> UserfaultEvent {
            try #require(try victim.next().first)
        }

        /// Has a removal go on before everything is there.
        func readTooEarly(_ command: String, _ first: UInt64, _ count: UInt64) throws {
            try victim.tell(command, address(first), count)
            try waitForMessage()
            let event = try event()
            guard case .remove = event else { throw TestFailure("\(event)") }
            try state.memory.entered(event)
            #expect(try victim.answer() == 0)
        }

        func peek(_ page: UInt64) throws -> Int64 {
            try victim.tell("peek", address(page))
            return try answerWhileServed()
        }

        /// The answer of a victim that may wait for what is decided here.
        func answerWhileServed() throws -> Int64 {
            try wait(for: "the victim's answer") {
                try service()
                return try victim.process.output?.isReady() == true
            }
            return try victim.answer()
        }
    }

    @Test func aPageIsAskedForAndComes() throws {
        let owing = try Owing()
        try owing.victim.tell("peek", owing.address(3))
        try owing.waitForMessage()
        #expect(try owing.service() == false)
        var requests: [PageRequest] = []
        owing.state.memory.takeRequests(into: &requests)
        #expect(requests.first?.address.rawValue == owing.address(3))
        #expect(try owing.arrive(3, 1, at: owing.start) == .done)
        #expect(try owing.victim.answer() == 4)
        // It is there, and what the process has made of it is not overwritten.
        try owing.victim.tell("poke", owing.address(3), 99)
        #expect(try owing.victim.answer() == 0)
        #expect(try owing.arrive(3, 1, at: owing.start) == .done)
        #expect(try owing.peek(3) == 99)
        owing.state.memory.close()
    }

    @Test func aHoleIsZeros() throws {
        let owing = try Owing()
        #expect(try owing.peek(7) == 0)
        var requests: [PageRequest] = []
        owing.state.memory.takeRequests(into: &requests)
        #expect(requests.isEmpty)
        owing.state.memory.close()
    }

    /// What it says is the same in both cases; what it does is not.
    @Test(arguments: [("remove", Int64(3)), ("punch", 0)])
    func aRemovalWaitsUntilEverythingIsThere(command: String, expected: Int64) throws {
        let owing = try Owing()
        #expect(try owing.arrive(1, 1, at: owing.start) == .done)
        try owing.victim.tell(command, owing.address(1), 3)
        try owing.waitForMessage()
        #expect(try owing.service())
        var requests: [PageRequest] = []
        owing.state.memory.requestObjects(into: &requests, limit: 256)
        #expect(requests.map(\.count).reduce(0, +) == 5)
        // Installs go on all the same.
        #expect(try owing.arrive(2, 4, at: owing.start) == .done)
        #expect(try owing.service())
        #expect(try DescriptorIO.wait(for: .readable, on: owing.victim.uffd.descriptor, until: .immediate))
        #expect(try owing.arrive(0, 1, at: owing.start) == .done)
        #expect(try owing.service() == false)
        #expect(try owing.victim.answer() == 0)
        #expect(try owing.peek(2) == expected)
        #expect(try owing.peek(5) == 6)
        #expect(try owing.peek(0) == 1)
        owing.state.memory.close()
    }

    /// Its event may be read by mistake: then it is looked at what it does before anything is installed there.
    ///
    /// Where a page has come, that one tells; where none has, whether the object was modified.
    @Test(arguments: [("remove", Int64(3)), ("punch", 0)], [UInt32(0), 2])
    func aRemovalThatIsReadTooEarlyIsFoundOut(removal: (command: String, expected: Int64), present: UInt32) throws {
        let owing = try Owing()
        if present > 0 { #expect(try owing.arrive(2, present, at: owing.start) == .done) }
        try owing.readTooEarly(removal.command, 1, 3)
        #expect(try owing.arrive(0, 6, at: owing.start) == .interrupted)
        #expect(try owing.service())
        let isComplete = owing.state.memory.isComplete
        #expect(!isComplete)
        try wait(for: "the decision") { try !owing.service() }
        #expect(try owing.arrive(0, 6, at: owing.start) == .done)
        #expect(try owing.peek(2) == removal.expected)
        #expect(try owing.peek(3) == (removal.expected == 0 ? 0 : 4))
        #expect(try owing.peek(5) == 6)
        owing.state.memory.close()
    }

    /// What one has done to the object is not held against the next.
    @Test func twoRemovalsThatAreReadTooEarlyAreToldApart() throws {
        let owing = try Owing()
        try owing.readTooEarly("punch", 0, 2)
        try wait(for: "the decision") { try !owing.service() }
        try owing.readTooEarly("remove", 2, 4)
        try wait(for: "the decision") { try !owing.service() }
        #expect(try owing.arrive(0, 6, at: owing.start) == .done)
        #expect(try owing.peek(1) == 0)
        #expect(try owing.peek(3) == 4)
        owing.state.memory.close()
    }

    @Test func aChildWhoseForkCouldNotWaitWaitsItself() throws {
        let owing = try Owing()
        try owing.victim.tell("fork-peek", owing.address(4))
        try owing.waitForMessage()
        try owing.state.memory.entered(try owing.event())
        try owing.service()
        usleep(20_000)
        #expect(try owing.arrive(0, 6, at: owing.start) == .done)
        try owing.service()
        #expect(try owing.victim.answer() == 5)
        owing.state.memory.close()
    }

    /// A fork speaks to one userfaultfd after the other; that of shared memory, which lies lower, is first.
    @Test func aForkDoesNotHoldUpPrivateMemoryForEver() throws {
        let owing = try Owing()
        try #require(owing.start < owing.privateStart)
        owing.state.memory.objects?.forkPatience = .seconds(3600)
        try owing.victim.tell("fork-peek", owing.privateStart)
        try owing.waitForMessage()
        #expect(try owing.service())
        #expect(try owing.arrive(0, 8, at: owing.privateStart) == .interrupted)
        owing.state.memory.objects?.forkPatience = .milliseconds(20)
        try wait(for: "private memory, which waits for shared memory") {
            try owing.arrive(0, 8, at: owing.privateStart) == .done
        }
        try owing.service()
        #expect(try owing.arrive(0, 6, at: owing.start) == .done)
        try owing.service()
        #expect(try owing.victim.answer() == 1)
        owing.state.memory.close()
    }

    /// It is found at no address that was told, and it is no zeros.
    @Test func whatWasMovedWaitsUntilEverythingIsThere() throws {
        let owing = try Owing()
        try owing.victim.tell("map", 8)
        let target = try UInt64(owing.victim.answer())
        try owing.victim.tell("move", owing.start, 8, target)
        try owing.waitForMessage()
        #expect(try owing.service())
        #expect(try owing.arrive(0, 6, at: owing.start) == .done)
        #expect(try owing.service() == false)
        #expect(try owing.victim.answer() >= 0)
        try owing.victim.tell("peek", target + 5 * Self.page)
        try owing.service()
        #expect(try owing.victim.answer() == 6)
        owing.state.memory.close()
    }

    /// Nothing waits for that, and nothing comes to what is mapped there next.
    @Test func anUnmappingDoesNotWait() throws {
        let owing = try Owing()
        try owing.victim.tell("unmap", owing.address(2), 2)
        #expect(try owing.victim.answer() == 0)
        #expect(try owing.arrive(0, 6, at: owing.start) == .done)
        #expect(try owing.peek(5) == 6)
        owing.state.memory.close()
    }
}
