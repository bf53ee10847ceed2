// SPDX-License-Identifier: Apache-2.0
import LinuxSystem
import Paging
import ProcessTrace
import TestSupport
import Testing

@testable import Checkpoint

/// Guards are known under the freeze as far as they were there before, or lie in new memory.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: page tables of other processes"))
struct GuardSearchTests {
    /// A victim that does as it is told.
    private struct Victim {
        let process: TestProcess

        /// The answer to a command.
        @discardableResult
        func tell(_ command: String, _ arguments: UInt64...) throws -> UInt64 {
            let words = [command] + arguments.map { String($0, radix: 16) }
            try process.input?.write(words.joined(separator: " ") + "\n")
            guard let answer = UInt64(try process.readLine(), radix: 16) else { throw TestFailure("no answer") }
            return answer
        }

        func pages(_ start: UInt64, _ first: UInt64, _ count: UInt64) -> AddressRange {
            AddressRange(VirtualAddress(start + first * 4096), VirtualAddress(start + (first + count) * 4096))
        }

        func confirm(_ search: GuardSearch, in ranges: AddressRange...) throws -> [AddressRange] {
            try search.confirm(in: ranges, Pagemap(pid: process.pid))
        }
    }

    private func withVictim(_ body: (Victim) throws -> Void) throws {
        try withProcess(BuiltProduct.victim, ["uffd-commands"], options: .init(input: .pipe)) { process in
            _ = try process.readLine()
            try body(Victim(process: process))
        }
    }

    @Test func guardsThatStillAreThereAreConfirmed() throws {
        try withVictim { victim in
            let start = try victim.tell("map", 2048)
            let all = victim.pages(start, 0, 2048)
            // Two that are near each other and one that is far away.
            for page: UInt64 in [3, 9, 1500] { try victim.tell("guard", start + page * 4096, 1) }
            let search = try GuardSearch(walking: [all], of: victim.process.pid)
            let found = [victim.pages(start, 3, 1), victim.pages(start, 9, 1), victim.pages(start, 1500, 1)]
            #expect(try victim.confirm(search, in: all) == found)
            // Only in the ranges that are asked for.
            #expect(try victim.confirm(search, in: victim.pages(start, 4, 2000)) == Array(found[1...]))
            // One is none any more, and one has grown: its new pages are found when they are near enough.
            try victim.tell("unguard", start + 3 * 4096, 1)
            try victim.tell("guard", start + 1501 * 4096, 1)
            #expect(try victim.confirm(search, in: all) == Array(found[1...]))
        }
    }

    @Test func guardsInNewMemoryAreFoundAndOthersAreLeftForLater() throws {
        try withVictim { victim in
            let start = try victim.tell("map", 512)
            let search = try GuardSearch(walking: [victim.pages(start, 0, 512)], of: victim.process.pid)
            let new = try victim.tell("map", 512)
            try victim.tell("guard", start + 7 * 4096, 1)
            try victim.tell("guard", new + 7 * 4096, 2)
            let ranges = [min(start, new), max(start, new)].map { victim.pages($0, 0, 512) }
            let known = try search.confirm(in: ranges, Pagemap(pid: victim.process.pid))
            #expect(known == [victim.pages(new, 7, 2)])
            // Two mappings that the kernel has merged are one range, of which a part is new.
            let both = AddressRange(ranges[0].lowerBound, ranges[1].upperBound)
            #expect(try victim.confirm(search, in: both) == [victim.pages(new, 7, 2)])
            // Without a walk before everything is looked at.
            let all = try GuardSearch().confirm(in: ranges, Pagemap(pid: victim.process.pid))
            #expect(Set(all) == [victim.pages(new, 7, 2), victim.pages(start, 7, 1)])
        }
    }

    @Test func aFreezeWalksBeforehand() throws {
        try withVictim { victim in
            let start = try victim.tell("map", 64)
            try victim.tell("guard", start + 5 * 4096, 3)
            var examination = try Examination.examine(pid: victim.process.pid)
            try examination.refresh()
            let known = try victim.confirm(examination.guards, in: victim.pages(start, 0, 64))
            #expect(known == [victim.pages(start, 5, 3)])
        }
    }
}
