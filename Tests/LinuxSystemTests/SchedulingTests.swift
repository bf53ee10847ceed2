// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import TestSupport
internal import Testing

@Suite("How threads share a CPU", .serialized, .timeLimit(.minutes(5)))
struct SchedulingTests {
    /// What a new thread finds out about itself.
    private func attributes(
        _ urgency: ThreadUrgency,
        _ change: @escaping @Sendable () -> Void = {}
    ) throws -> SchedulingAttributes {
        let seen = Lock<SchedulingAttributes?>(nil)
        let thread = try NamedThread("scheduled", urgency: urgency) {
            change()
            let own = try? SchedulingAttributes()
            seen.withLock { $0 = own }
        }
        thread.join()
        return try #require(seen.withLock { $0 })
    }

    /// Linux 6.12.
    private static let kernelHeedsSlices = ((try? SchedulingAttributes().slice) ?? 0) > 0

    @Test func whatIsSetIsReadAgain() throws {
        let usual = try SchedulingAttributes()
        #expect(usual.policy == .other)
        let changed = try attributes(.usual) {
            guard var own = try? SchedulingAttributes() else { return }
            own.policy = .idle
            own.nice += 2
            own.slice = 3_000_000
            try? own.apply()
        }
        #expect(changed.policy == .idle)
        #expect(changed.nice == usual.nice + 2)
        if Self.kernelHeedsSlices { #expect(changed.slice == 3_000_000) }
        #expect(try SchedulingAttributes() == usual, "another thread is not touched")
    }

    @Test func aPolicyThatDoesNotExistIsAnError() throws {
        var attributes = try SchedulingAttributes()
        attributes.policy = .init(rawValue: 77)
        let error = #expect(throws: SystemCallError.self) { try attributes.apply() }
        #expect(error?.errno == .invalid)
    }

    @Test(.enabled(if: kernelHeedsSlices, "needs Linux 6.12")) func urgencyChangesTurns() throws {
        let usual = try attributes(.usual)
        #expect(try usual == SchedulingAttributes())
        let urgent = try attributes(.urgent)
        #expect(urgent.policy == .other)
        #expect(urgent.slice < usual.slice)
        let background = try attributes(.background)
        #expect(background.policy == .batch)
        #expect(background.slice > usual.slice)
        #expect(urgent.nice <= usual.nice)
        #expect(background.nice == usual.nice, "nobody goes without a CPU")
    }

    /// An operator who starts the program with `chrt --idle` or `nice` knows why.
    @Test func whatSomebodyHasChosenStays() throws {
        let chosen = try attributes(.usual) {
            guard var own = try? SchedulingAttributes() else { return }
            own.policy = .batch
            own.nice += 5
            try? own.apply()
            let before = try? SchedulingAttributes()
            for urgency in [ThreadUrgency.urgent, .background] {
                urgency.applyToCurrentThread()
                #expect((try? SchedulingAttributes()) == before)
            }
        }
        #expect(chosen.policy == .batch)
    }
}
