// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import DirtyTracking
internal import TestSupport
internal import Testing

/// What is chosen, and what is asked of the kernel.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct SupportTests {
    private static let missing = TrackerSupport.Availability.unavailable(reason: "it is not there", remedy: "get it")

    @Test func automaticChoiceTakesTheBestWriteProtectionAndNeverSoftDirty() throws {
        var support = TrackerSupport(
            writeProtectAsync: .available,
            writeProtectSync: .available,
            softDirty: .available
        )
        #expect(try support.strategy(for: .auto) == .writeProtectAsync)
        support.writeProtectAsync = Self.missing
        #expect(try support.strategy(for: .auto) == .writeProtectSync)
        support.writeProtectSync = Self.missing
        #expect(try support.strategy(for: .auto) == .none)
        #expect(try support.strategy(for: .softDirty) == .softDirty)
        #expect(try support.strategy(for: .none) == .none)
    }

    @Test(arguments: [TrackerChoice.writeProtectAsync, .writeProtectSync, .softDirty])
    func whatWasAskedForIsNeverReplaced(choice: TrackerChoice) throws {
        let support = TrackerSupport(
            writeProtectAsync: Self.missing,
            writeProtectSync: Self.missing,
            softDirty: Self.missing
        )
        let error = #expect(throws: TrackingError.self) { try support.strategy(for: choice) }
        #expect(error?.code == .unavailable)
        #expect(error?.message == "the tracker \(choice.rawValue) cannot be used: it is not there; get it")
    }

    @Test(.enabled(if: Machine.isRoot, "needs root: userfaultfd"))
    func theKernelIsAskedAndAgreesWithItsVersion() throws {
        let support = TrackerSupport.probe()
        print("SUPPORT \(support)")
        let version = try readText("/proc/sys/kernel/osrelease").split(separator: ".").compactMap { Int($0) }
        try #require(version.count >= 2)
        let isNew = (version[0], version[1]) >= (6, 7)
        #expect((support.writeProtectAsync == .available) == isNew)
        #expect(support.writeProtectSync == .available)
        // A kernel that clears soft-dirty bits keeps them.
        let hasBits = try readText("/proc/self/smaps").contains("VmFlags") && hasSoftDirtyFlag()
        #expect((support.softDirty == .available) == hasBits)
    }

    /// VmFlags `sd` of a mapping made by this program.
    private func hasSoftDirtyFlag() throws -> Bool {
        try readText("/proc/self/smaps").split(separator: "\n")
            .contains { $0.hasPrefix("VmFlags:") && $0.split(separator: " ").contains("sd") }
    }

    @Test(.enabled(if: Machine.isRoot, "needs root: userfaultfd"))
    func kernelBugsAreTriedOnPagesOfTheirOwn() {
        for bug in KernelBug.allCases {
            let outcome = bug.probe()
            print("BUG \(bug.rawValue): \(outcome)")
            #expect(outcome == .fixed || outcome == .present || "\(outcome)".contains("huge page"))
        }
    }
}
