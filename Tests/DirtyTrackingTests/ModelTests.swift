// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import Glibc
internal import Paging
internal import ProcessTrace
internal import TestSupport
internal import Testing

/// Random programs, with rounds while they run. What nothing is said of since a page was read holds what was read; and the process
/// itself never notices.
@Suite(.serialized, .timeLimit(.minutes(5)), .enabled(if: Machine.isRoot, "needs root: userfaultfd of other processes"))
struct ModelTests {
    /// Four huge pages' worth, so that commands take whole page tables.
    private static let arenaPages: UInt64 = 4 * 512

    private static let seeds: [UInt64] = {
        // SAFETY: the text is copied before anything else reads or alters the environment.
        let asked = unsafe getenv("THAW_SEED").map { unsafe String(cString: $0) }
        if let asked, let seed = UInt64(asked) { return [seed] }
        // Two that have found something: a mapping replaced whole by an empty one, and one that has lost its registration by a merge.
        return [985_722, 856_369, UInt64.random(in: 3..<1_000_000)]
    }()

    @Test(arguments: TrackingWay.allCases, seeds)
    func nothingStaleIsKept(way: TrackingWay, seed: UInt64) throws {
        print("SEED \(seed), \(way.rawValue) (THAW_SEED=\(seed) repeats it)")
        let victim = try TrackedVictim()
        let arena = try victim.region(Self.arenaPages, filled: nil, how: seed % 2 == 0 ? .huge : .small)
        var run = ModelRun(victim, RandomProgram(arena: arena, seed: seed), try victim.begin(way))
        for turn in 0..<400 {
            try run.burst()
            if turn % 40 == 39 { try run.verify("turn \(turn) of seed \(seed), \(way.rawValue)") }
        }
        print("SEED \(seed), \(way.rawValue): \(run.counts)")
        // It was no idle run.
        #expect(run.counts.kept > 100 && run.counts.sent > 1000 && run.counts.dropped > 500)
        run.tracker.end()
        #expect(try victim.registeredMappings.isEmpty)
    }
}

/// A victim, its model, and a destination that keeps what it is sent.
private struct ModelRun {
    struct Counts {
        var commands = 0
        var rounds = 0
        var sent = 0
        var dropped: UInt64 = 0
        /// Pages that were compared because nothing was said of them.
        var kept = 0
    }

    let victim: TrackedVictim
    let tracker: WriteTracker
    var program: RandomProgram
    var copies: [UInt64: [UInt8]] = [:]
    var counts = Counts()

    init(_ victim: TrackedVictim, _ program: RandomProgram, _ tracker: WriteTracker) {
        self.victim = victim
        self.tracker = tracker
        self.program = program
    }

    /// Some commands, and often a round while they are carried out.
    mutating func burst() throws {
        let commands = (0..<program.int(1..<10)).map { _ in program.command() }
        for command in commands {
            let (name, words) = command.words(program.arena)
            try victim.tell(name, words)
        }
        counts.commands += commands.count
        if program.one(in: 2) { try round() }
        for command in commands { program.apply(command, try victim.answer()) }
    }

    private mutating func round() throws {
        let round = try tracker.round()
        counts.rounds += 1
        counts.dropped += round.dropped.count
        let pages = program.arena.range.pageNumbers
        for place in round.dropped.places(in: program.arena) { copies[pages.lowerBound + place] = nil }
        for place in round.written.places(in: program.arena) {
            let page = pages.lowerBound + place
            // A page that cannot be read any more is not sent; the next round drops it.
            copies[page] = try? victim.memory.read(VirtualAddress(pageNumber: page), count: PageSize.baseBytes)
            counts.sent += 1
        }
    }

    mutating func verify(_ moment: String) throws {
        try victim.stopped {
            let last = try tracker.finalRound()
            var stale: [UInt64] = []
            for (page, copy) in copies where !last.dropped.contains(page) && !last.written.contains(page) {
                counts.kept += 1
                let now = try? victim.memory.read(VirtualAddress(pageNumber: page), count: PageSize.baseBytes)
                if now != copy { stale.append(page) }
            }
            #expect(stale.count == 0, "\(moment): stale \(stale.map { VirtualAddress(pageNumber: $0) })")
            let missing = try dataPages().filter { copies[$0] == nil || last.dropped.contains($0) }
                .filter { !last.written.contains($0) }
            #expect(missing.count == 0, "\(moment): never sent \(missing.map { VirtualAddress(pageNumber: $0) })")
            try compareWithModel(moment)
        }
    }

    /// Pages with data of private anonymous mappings.
    private func dataPages() throws -> [UInt64] {
        let query = PageQuery(anyOf: [.present, .swapped], returning: [.zero])
        let pagemap = try Pagemap(pid: victim.pid)
        return try ProcessMaps.read(victim.pid).filter { !$0.isShared && $0.inode == 0 }.flatMap { entry in
            guard let range = entry.range.intersection(program.arena.range) else { return [UInt64]() }
            return try pagemap.scan(range, query).filter { !$0.categories.contains(.zero) }
                .flatMap { Array($0.range.pageNumbers) }
        }
    }

    private func compareWithModel(_ moment: String) throws {
        var wrong: [String] = []
        for (place, expected) in program.model.enumerated() {
            let address = VirtualAddress(program.arena.page(UInt64(place)))
            let word = try? victim.memory.readWord(address)
            let isRight =
                switch expected {
                case .unknown: true
                case .unmapped: word == nil
                case .holds(let value): word == value
                case .holdsOrZero(let value): word == value || word == 0
                }
            if !isRight { wrong.append("\(address): \(word ?? .max), not \(expected)") }
        }
        #expect(wrong.count == 0, "\(moment): the process has \(wrong.prefix(5))")
    }
}
