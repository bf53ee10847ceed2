// SPDX-License-Identifier: Apache-2.0
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing

@testable internal import DirtyTracking

/// Soft-dirty rounds against a recorded `/proc`: the kernels that these tests run on may have no such bits, and that of the machine
/// they were written on has none. What is recorded is the format of the man page, proc_pid_pagemap(5), not the answers of a kernel.
@Suite(.timeLimit(.minutes(5)))
struct SoftDirtyTests {
    @Test func entriesAreTakenApart() {
        // Little-endian words: present and dirty; swapped; of a file; a guard; protected; a rest of three bytes.
        let bytes: [UInt8] = [
            0x45, 0x23, 0x01, 0, 0, 0, 0x80, 0x80,
            0x1f, 0, 0, 0, 0, 0, 0, 0x40,
            0, 0, 0, 0, 0, 0, 0, 0xa0,
            0, 0, 0, 0, 0, 0, 0, 0x44,
            0, 0, 0, 0, 0, 0, 0, 0x82,
            1, 2, 3,
        ]
        let entries = PagemapEntry.parse(bytes[...])
        #expect(entries.count == 5)
        #expect(entries[0].isPresent && entries[0].isSoftDirty && entries[0].frame == 0x12345)
        #expect(!entries[0].isSwapped && !entries[0].isFile && !entries[0].isGuard && !entries[0].isWriteProtected)
        #expect(entries[1].isSwapped && !entries[1].isPresent && entries[1].frame == 0)
        #expect(entries[2].isPresent && entries[2].isFile)
        #expect(entries[3].isSwapped && entries[3].isGuard && !entries[3].isPresent)
        #expect(entries[4].isPresent && entries[4].isWriteProtected && !entries[4].isSoftDirty)
    }

    @Test func roundsReportWhatIsDirtyAndDropWhatIsGone() throws {
        let process = RecordedProcess()
        process.maps = "1000-9000 rw-p 00000000 00:00 0\n"
        process.set(pages: 1..<9, [.present])
        process.set(pages: 3..<4, [])
        process.set(pages: 4..<5, [.present, .zeroPage])
        var rounds = SoftDirtyRounds(process)
        let first = try rounds.round()
        #expect(first.written.places == [1, 2, 5, 6, 7, 8] && first.dropped.isEmpty)
        #expect(process.clearings == ["stop", "clear", "go"])
        process.set(pages: 2..<3, [.present, .dirty])
        process.set(pages: 3..<4, [.swapped, .dirty])
        process.set(pages: 5..<6, [.dirty])
        process.set(pages: 6..<7, [.swapped, .guardPage])
        let second = try rounds.round()
        #expect(second.written.places == [2, 3] && second.dropped.places == [5, 6])
        #expect(second.presentPages == 5)
        #expect(try rounds.round().written.isEmpty)
    }

    @Test func theLastLookClearsNothing() throws {
        let process = RecordedProcess()
        process.maps = "1000-3000 rw-p 00000000 00:00 0\n"
        process.set(pages: 1..<3, [.present])
        var rounds = SoftDirtyRounds(process)
        _ = try rounds.round()
        process.set(pages: 1..<2, [.present, .dirty])
        process.clearings = []
        for _ in 0..<2 { #expect(try rounds.finalRound(nil).written.places == [1]) }
        #expect(process.clearings.isEmpty)
        #expect(try rounds.round().written.places == [1])
    }

    @Test func aMappingMadeAnewIsDirtyAsAWhole() throws {
        let process = RecordedProcess()
        process.maps = "1000-5000 rw-p 00000000 00:00 0\n"
        process.set(pages: 1..<5, [.present])
        var rounds = SoftDirtyRounds(process)
        _ = try rounds.round()
        // Another mapping in the place of one page: dirty, there or not. And one that is out of scope.
        process.maps = """
            1000-4000 rw-p 00000000 00:00 0
            4000-5000 rw-s 00000000 00:01 77 /dev/zero (deleted)

            """
        process.set(pages: 2..<3, [.dirty])
        process.set(pages: 3..<4, [.present, .dirty])
        let second = try rounds.round()
        #expect(second.written.places == [3] && second.dropped.places == [2, 4])
    }
}

/// A process as `/proc` would show it.
private final class RecordedProcess: SoftDirtyProcess {
    struct Marks: OptionSet {
        let rawValue: UInt64
        static let present = Marks(rawValue: 1 << 63)
        static let swapped = Marks(rawValue: 1 << 62)
        static let guardPage = Marks(rawValue: 1 << 58)
        static let dirty = Marks(rawValue: 1 << 55)
        static let zeroPage = Marks(rawValue: 7)
    }

    var maps = ""
    var pagemap = [UInt8](repeating: 0, count: 16 * 8)
    var clearings: [String] = []
    private let categorizer = PageCategorizer(.softDirty, zeroFrame: 7)

    func set(pages: Range<Int>, _ marks: Marks) {
        for page in pages {
            for byte in 0..<8 { pagemap[page * 8 + byte] = UInt8(truncatingIfNeeded: marks.rawValue >> (byte * 8)) }
        }
    }

    func mappings() throws(TrackingError) -> TrackedMappings {
        do {
            let entries = try ProcessMaps.parse(Array(maps.utf8), file: "maps")
            return TrackedMappings(entries, scope: .privateAnonymous, joinsGaps: false)
        } catch {
            throw TrackingError(.systemCall, "\(error)")
        }
    }

    func scan(
        _ pages: Range<UInt64>,
        _ query: PageQuery,
        _ body: (Range<UInt64>, PageCategories) -> Void
    ) throws(TrackingError) {
        let bytes = pagemap[Int(pages.lowerBound) * 8..<Int(pages.upperBound) * 8]
        for (page, entry) in zip(pages, PagemapEntry.parse(bytes)) {
            let categories = categorizer.categories(of: entry)
            if query.finds(categories) { body(page..<page + 1, categories) }
        }
    }

    func clear() throws(TrackingError) {
        clearings.append("clear")
        for page in 0..<16 { pagemap[page * 8 + 6] &= 0x7f }
    }

    func stopped<Value>(_ body: () throws(TrackingError) -> Value) throws(TrackingError) -> Value {
        clearings.append("stop")
        defer { clearings.append("go") }
        return try body()
    }
}

extension PageSet {
    /// All page numbers of a small set.
    fileprivate var places: [UInt64] {
        var places: [UInt64] = []
        var position: UInt64 = 0
        while let run = nextRun(from: position) {
            places += run
            position = run.upperBound
        }
        return places
    }
}
