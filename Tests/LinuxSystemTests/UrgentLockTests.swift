// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import TestSupport
internal import Testing

@Suite("A lock that urgent threads get first", .serialized, .timeLimit(.minutes(5)))
struct UrgentLockTests {
    @Test func oneThreadIsInsideAtATime() throws {
        let count = UrgentLock(0)
        let background = try Joined(
            NamedThread("adds", urgency: .background) {
                for _ in 0..<20_000 { count.withBackgroundLock { $0 += 1 } }
            }
        )
        let urgent = try Joined(
            NamedThread("adds", urgency: .urgent) {
                for _ in 0..<20_000 { count.withUrgentLock { $0 += 1 } }
            }
        )
        background.join()
        urgent.join()
        #expect(count.withUrgentLock { $0 } == 40_000)
    }

    @Test func whoIsInsideIsUrgentWhileAnUrgentThreadWaits() throws {
        let lock = UrgentLock(false)
        let isInside = try EventDescriptor()
        let seen = Lock([SchedulingAttributes?]())
        let note: @Sendable () -> Void = { seen.withLock { $0.append(try? SchedulingAttributes()) } }
        let background = try Joined(
            NamedThread("inside", urgency: .background) {
                note()
                lock.withBackgroundLock { wasChanged in
                    isInside.signal()
                    let deadline = soon()
                    while (try? SchedulingAttributes())?.policy != .other, !deadline.hasPassed { Processor.yield() }
                    note()
                    #expect(!wasChanged, "nobody else is inside")
                }
                note()
            }
        )
        #expect(try isInside.wait(until: soon()))
        let urgent = try Joined(NamedThread("waits", urgency: .urgent) { lock.withUrgentLock { $0 = true } })
        background.join()
        urgent.join()
        let attributes = seen.withLock { $0 }
        #expect(attributes.count == 3)
        #expect(attributes[0]?.policy == .batch)
        #expect(attributes[1]?.policy == .other)
        #expect(attributes[2] == attributes[0], "the turn was lent")
        #expect(lock.withUrgentLock { $0 })
    }

    @Test func whoHasChosenAPolicyKeepsIt() throws {
        let lock = UrgentLock(UInt8(0))
        let isInside = try EventDescriptor()
        let mayLeave = try EventDescriptor()
        let seen = Lock<[SchedulingAttributes?]>([])
        let background = try Joined(
            NamedThread("inside") {
                let before = try? SchedulingAttributes()
                lock.withBackgroundLock { _ in
                    isInside.signal()
                    _ = try? mayLeave.wait(until: soon())
                    seen.withLock { $0 = [before, try? SchedulingAttributes()] }
                }
            }
        )
        #expect(try isInside.wait(until: soon()))
        let urgent = try Joined(NamedThread("waits") { lock.withUrgentLock { _ in } })
        try wait(for: "the urgent thread to wait") {
            try namesInFolder("/proc/self/task").contains { tid in
                let name = (try? readText("/proc/self/task/\(tid)/comm")) ?? ""
                let state = (try? readText("/proc/self/task/\(tid)/stat"))?.split(separator: " ").dropFirst(2).first
                return name == "waits\n" && state == "S"
            }
        }
        mayLeave.signal()
        background.join()
        urgent.join()
        let attributes = seen.withLock { $0 }
        #expect(attributes.count == 2 && attributes[0] != nil && attributes[0] == attributes[1])
    }
}
