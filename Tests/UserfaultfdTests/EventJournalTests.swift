// SPDX-License-Identifier: Apache-2.0
import LinuxSystem
import Testing
import Userfaultfd

/// What a restorer leaves to the one that takes over.
@Suite(.serialized, .timeLimit(.minutes(5)))
struct EventJournalTests {
    @Test func nobodyTakesOverWhileThreadsAreBeingChanged() throws {
        let journal = try EventJournal()
        #expect(!journal.canBeTakenOver)
        journal.phase = .owed
        #expect(journal.canBeTakenOver)
        journal.setAtWork(true)
        #expect(!journal.canBeTakenOver)
        journal.setAtWork(false)
        #expect(journal.canBeTakenOver)
        journal.phase = .idle
        #expect(!journal.canBeTakenOver)
    }

    @Test func nobodyTakesOverOnceThereIsNoRoom() throws {
        let journal = try EventJournal(size: 12288)
        journal.phase = .owed
        let record = JournalRecord(kind: 3)
        // 4096 bytes of records of 40.
        for _ in 0..<102 { #expect(journal.add(record)) }
        #expect(!journal.isFull && journal.canBeTakenOver)
        #expect(!journal.add(record))
        #expect(journal.isFull && !journal.canBeTakenOver && journal.count == 102)
    }

    @Test func recordsComeBackAsTheyWere() throws {
        let journal = try EventJournal()
        let record = JournalRecord(kind: 3, space: 7, 1, .max, 0, 42)
        #expect(journal.add(record))
        #expect(journal.count == 1)
        #expect(journal[0] == .record(record))
    }

    @Test func onlyARecordThatWasAddedLastCanBeAmended() throws {
        let journal = try EventJournal()
        #expect(journal.latest == nil)
        let (first, second) = (JournalRecord(kind: 3, space: 7, 1, 2), JournalRecord(kind: 4, 5))
        journal.add(first)
        journal.add(second)
        #expect(journal.latest == second)
        let amended = JournalRecord(kind: 9, space: 8, 5, 6, 7, 8)
        journal.amendLatest(amended)
        #expect(journal.latest == amended && journal.count == 2)
        #expect(journal[0] == .record(first) && journal[1] == .record(amended))
    }
}
