// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import Testing

@Suite("Threads, events and signals", .serialized, .timeLimit(.minutes(1)))
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

    @Test func anEventWakesAThreadThatWaitsInAPoller() throws {
        let request = try EventDescriptor()
        let answer = try EventDescriptor()
        let thread = try NamedThread("poller") {
            guard let poller = try? Poller() else { return }
            guard (try? poller.add(request.descriptor, token: 7)) != nil else { return }
            guard (try? poller.wait(until: .after(.seconds(30)))) == 1, poller[0].token == 7 else { return }
            guard request.drain() == 1 else { return }
            answer.signal()
        }
        request.signal()
        #expect(try answer.wait(until: .after(.seconds(30))))
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
}
