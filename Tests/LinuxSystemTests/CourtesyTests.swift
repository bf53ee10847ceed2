// SPDX-License-Identifier: Apache-2.0
import LinuxSystem
import Testing

@Suite("When threads that stream let others go first", .timeLimit(.minutes(5)))
struct CourtesyTests {
    private static let millisecond: UInt64 = 1_000_000

    @Test func nobodyAsksWithoutFaults() {
        #expect(!Courtesy().isDue(at: 7 * Self.millisecond))
    }

    @Test func theStreamAsksForAWhileAfterAFault() {
        let courtesy = Courtesy()
        courtesy.faulted(at: 100 * Self.millisecond)
        #expect(courtesy.isDue(at: 100 * Self.millisecond))
        #expect(courtesy.isDue(at: 104 * Self.millisecond))
        #expect(!courtesy.isDue(at: 106 * Self.millisecond))
        courtesy.faulted(at: 103 * Self.millisecond)
        #expect(courtesy.isDue(at: 106 * Self.millisecond))
    }

    /// The clock of another CPU may have been read a little later.
    @Test func aFaultMayLieInTheFuture() {
        let courtesy = Courtesy()
        courtesy.faulted(at: 100 * Self.millisecond)
        #expect(courtesy.isDue(at: 100 * Self.millisecond - 500))
        courtesy.wasAway(from: 100 * Self.millisecond, to: 100 * Self.millisecond - 500)
        #expect(courtesy.isDue(at: 100 * Self.millisecond))
    }

    @Test func aShortAbsenceChangesNothing() {
        let courtesy = Courtesy()
        courtesy.faulted(at: 100 * Self.millisecond)
        courtesy.wasAway(from: 100 * Self.millisecond, to: 100 * Self.millisecond + 900_000)
        #expect(courtesy.isDue(at: 101 * Self.millisecond))
    }

    /// Half of the CPU stays the stream's.
    @Test(arguments: [(UInt64(1_200_000), UInt64(1_200_000)), (4_000_000, 4_000_000), (400_000_000, 8_000_000)])
    func aLongAbsenceIsPaidBack(absence: UInt64, rest: UInt64) {
        let courtesy = Courtesy()
        let end = 100 * Self.millisecond + absence
        courtesy.wasAway(from: 100 * Self.millisecond, to: end)
        courtesy.faulted(at: end + rest - 1)
        #expect(!courtesy.isDue(at: end + rest - 1))
        #expect(courtesy.isDue(at: end + rest))
    }
}
