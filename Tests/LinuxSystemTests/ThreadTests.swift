// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import TestSupport
internal import Testing

/// How long a test waits for something that should come soon.
func soon() -> Deadline { .after(patience) }

@Suite("Threads, locks and events", .serialized, .timeLimit(.minutes(5)))
struct ThreadTests {
    @Test func aThreadRunsUnderItsNameAndIsJoined() throws {
        let seen = Lock((name: "", id: Int32(0)))
        let thread = try NamedThread("uffd-12345-and-more") {
            let name = (try? FileReading.read("/proc/thread-self/comm")) ?? []
            seen.withLock { $0 = (String(decoding: name, as: UTF8.self), NamedThread.currentID) }
        }
        thread.join()
        let (name, id) = seen.withLock { $0 }
        #expect(name == "uffd-12345-and-\n", "the kernel keeps 15 bytes")
        #expect(id != 0 && id != NamedThread.currentID)
    }

    @Test func aThreadThatIsDroppedRunsOn() throws {
        let done = try EventDescriptor()
        do {
            _ = try NamedThread("dropped") { done.signal() }
        }
        #expect(try done.wait(until: soon()))
    }

    @Test func whatAThreadCapturesIsReleasedWithIt() throws {
        final class Witness: Sendable {
            let gone: EventDescriptor
            init(_ gone: EventDescriptor) { self.gone = gone }
            deinit { gone.signal() }
        }
        let gone = try EventDescriptor()
        let thread = try {
            let witness = Witness(gone)
            return try NamedThread("captures") { #expect(witness.gone.drain() == 0) }
        }()
        thread.join()
        #expect(gone.drain() == 1)
    }

    @Test func aLockLetsOneThreadInAtATime() throws {
        let count = Lock(0)
        func add() throws -> NamedThread {
            try NamedThread("adder") {
                for _ in 0..<20_000 { count.withLock { $0 += 1 } }
            }
        }
        let (first, second) = (try Joined(add()), try Joined(add()))
        first.join()
        second.join()
        #expect(count.withLock { $0 } == 40_000)
    }

    @Test func anEventWakesAThreadThatWaits() throws {
        let request = try EventDescriptor()
        let answer = try EventDescriptor()
        let thread = try NamedThread("waiter") {
            guard (try? request.wait(until: soon())) == true, request.drain() == 1 else { return }
            answer.signal()
        }
        request.signal()
        #expect(try answer.wait(until: soon()))
        thread.join()
    }

    @Test func anEventCountsAndIsDrainedToZero() throws {
        let event = try EventDescriptor()
        #expect(event.drain() == 0)
        event.signal()
        event.signal()
        #expect(event.drain() == 2)
        #expect(try !event.wait(until: .immediate))
    }

    @Test func aThreadIsMovedToOneCPUAndBack() throws {
        let allowed = try CPUAffinity()
        let cpu = try #require(allowed.cpus.last)
        let before = try CPUAffinity.pin(to: cpu)
        #expect(before == allowed)
        #expect(try CPUAffinity().cpus == [cpu])
        try before.apply()
        #expect(try CPUAffinity() == allowed)
    }

    @Test func aCPUThatDoesNotExistIsAnError() {
        let error = #expect(throws: SystemCallError.self) { try CPUAffinity(cpu: 8191).apply() }
        #expect(error?.errno == .invalid)
    }
}

/// A thread outside of a tuple, which cannot hold it.
final class Joined {
    private var thread: NamedThread?

    init(_ thread: consuming NamedThread) {
        self.thread = consume thread
    }

    func join() {
        thread.take()?.join()
    }
}
