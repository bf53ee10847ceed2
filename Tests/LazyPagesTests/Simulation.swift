// SPDX-License-Identifier: Apache-2.0
import LazyPages
import Paging
import TestSupport

/// A source, a kernel, an application and a driver that go on in any order, with the machine in the middle.
struct Simulation: ~Copyable {
    private var random: SeededGenerator
    private var machine: LazyPages
    private var spaces: [SpaceIdentifier: FakeSpace]
    private var nextMapping = 1_000
    /// Pages that no mapping ever used, for moves.
    private var freeArea: UInt64 = 1 << 24
    /// Ranges that mappings left, which the kernel may hand out again.
    private var holes: [Range<UInt64>] = []

    // The source.
    private let existing: PageSet
    private let zeroAtSource: PageSet
    private let guardsAtSource: PageSet
    private var requests: [PageRequest] = []
    private var replies: [Reply] = []
    private var guardPieces: [[PageRun]]
    private var mapPieces: [[PageRun]]
    private var unsent: PageSet
    /// What the stream has sent since the driver last said what it misses, and of that what has not come.
    private var streamed = PageSet()
    private var pipe: [Arrival] = []
    private var counted = PageSet()
    /// What was pre-copied and is right, told behind the page map.
    private let preCopied: PageSet
    private var preCopyPieces: [[PageRun]]
    /// A driver has died before it was known what of the pre-copied pages is right.
    private var hasForgotten = false
    /// Pre-copied pages that are being installed.
    private var locals: [Hand] = []

    private enum Reply {
        case pages(Arrival)
        case guards(PageRun)
        case sent(PageRun)
    }

    // The two receiving threads of the driver: what each has in its buffer.
    private var inHand: [Hand?] = [nil, nil]
    private let segments: [Segment]
    private var journal: [Journaled] = []
    private(set) var deaths = 0

    /// Pages that are being installed.
    private struct Hand {
        let arrival: Arrival
        let first: FirstArrivals
        var singly = false
    }

    /// What another driver has to know when this one dies.
    private enum Journaled {
        case step(BooksStep)
        case event(FakeSpace.Event, SpaceIdentifier)
    }

    init(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        var segments: [Segment] = []
        var pages: [UInt64: FakePage] = [:]
        var existing = PageSet()
        var zeroAtSource = PageSet()
        var preCopied = PageSet()
        let preCopies = random.one(in: 2)
        var guardsAtSource = PageSet()
        let hasGuards = random.one(in: 2)
        var start: UInt64 = 500
        let density = Int.random(in: 1...4, using: &random)
        for mapping in 0..<Int.random(in: 1...5, using: &random) {
            start += UInt64.random(in: 0...20, using: &random)
            let count = random.one(in: 4) ? UInt64(700) : UInt64.random(in: 1...60, using: &random)
            let isInherited = !random.one(in: 6)
            segments.append(Segment(AddressRange(pageNumbers: start..<start + count), isInherited: isInherited))
            for page in start..<start + count {
                var expected = Content.zeros
                if random.one(in: density) {
                    existing.insert(page)
                    if random.one(in: 5) { zeroAtSource.insert(page) } else { expected = .source(page) }
                    if preCopies, expected != .zeros, !random.one(in: 4) { preCopied.insert(page) }
                } else if hasGuards, random.one(in: 3) {
                    guardsAtSource.insert(page)
                    expected = .guardPage
                }
                pages[page] = FakePage(expected: expected, mapping: mapping, isInherited: isInherited)
            }
            start += count
        }
        self.segments = segments
        self.machine = LazyPages(segments: segments)
        self.spaces = [.process: FakeSpace(pages: pages)]
        self.existing = existing
        self.zeroAtSource = zeroAtSource
        self.guardsAtSource = guardsAtSource
        self.guardPieces = guardsAtSource.isEmpty ? [] : Self.pieces(of: guardsAtSource, &random)
        self.unsent = existing
        self.unsent.subtract(preCopied)
        self.preCopied = preCopied
        self.mapPieces = Self.pieces(of: existing, &random)
        self.preCopyPieces = preCopies ? Self.pieces(of: preCopied, &random) : []
        self.random = random
    }

    /// The page map in frames; the last one is marked by being the last.
    private static func pieces(of set: PageSet, _ random: inout SeededGenerator) -> [[PageRun]] {
        var pieces: [[PageRun]] = [[]]
        var position: UInt64 = 0
        while let run = set.nextRun(from: position) {
            position = run.upperBound
            pieces[pieces.count - 1].append(PageRun(pageNumbers: run))
            if random.one(in: 4) { pieces.append([]) }
        }
        return pieces
    }

    // MARK: Running

    mutating func run(steps: Int) throws {
        for _ in 0..<steps {
            try step()
        }
        try settle()
    }

    private mutating func step() throws {
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<30: try applicationStep()
        case 30..<50: try readDescriptor()
        case 50..<60: answerRequest()
        case 60..<75: try receive(onFault: true)
        case 75..<84: try receive(onFault: false)
        case 84..<90: try installPreCopied()
        case 90: try installGuards()
        case 91 where random.one(in: 4): try die()
        default: settleKernel(all: false)
        }
    }

    /// Lets everything under way come to its end and looks whether anything is missing.
    private mutating func settle() throws {
        for _ in 0..<20_000 where !isQuiet {
            settleKernel(all: true)
            for _ in 0..<spaces.count { try readDescriptor() }
            answerRequest()
            try receive(onFault: true)
            try receive(onFault: false)
            try installPreCopied()
            try installGuards()
        }
        guard isQuiet else { throw Violation("a thread waits for ever: \(state)") }
        guard machine.isResident, machine.hasAllPages else {
            throw Violation("something is owed although all has arrived: \(state)")
        }
        guard counted == existing else { throw Violation("\(counted.count) of \(existing.count) pages were counted") }
        for (identifier, space) in spaces {
            for (page, entry) in space.pages {
                // What unregistering would leave: missing pages read zeros.
                let content = entry.present ?? .zeros
                guard content == entry.expected || entry.isEither else {
                    throw Violation("\(identifier): page \(page) ends as \(content) where \(entry.expected) is right")
                }
            }
        }
    }

    private var isQuiet: Bool {
        requests.isEmpty && replies.isEmpty && inHand.allSatisfy { $0 == nil } && mapPieces.isEmpty && unsent.isEmpty
            && pipe.isEmpty && preCopyPieces.isEmpty && locals.isEmpty && machine.nextLocalRun(from: 0, limit: 1) == nil
            && spaces.values.allSatisfy {
                $0.waiters.isEmpty && $0.messages.isEmpty && !$0.isChanging && $0.zaps.isEmpty
            }
    }

    private var state: String {
        let waiting = spaces.map { "\($0.key) \($0.value.waiters.keys.sorted())" }
        return "waiting \(waiting), \(requests.count) requests, \(replies.count) replies, \(unsent.count) unsent"
    }

    // MARK: The application and the kernel

    private mutating func applicationStep() throws {
        guard let (identifier, space) = anySpace(), let page = space.anyPage(&random)
        else { return }
        let range = page..<page + UInt64.random(in: 1...(random.one(in: 10) ? 600 : 12), using: &random)
        switch Int.random(in: 0..<40, using: &random) {
        case 0..<26: try space.touch(page, isWrite: random.one(in: 3))
        case 26: if let waiting = space.waiters.keys.sorted().first { space.messages.append(waiting) }
        case 27..<30: space.events.append(.remove(range))
        case 30..<32: unmap(range, in: space)
        case 32..<35: move(range, in: space)
        case 35: splitMapping(at: page, in: space)
        case 36: grow(space)
        case 37: mapElsewhere(in: space)
        case 38 where spaces.count < 5: space.events.append(.fork(space.fork(&random)))
        case 38: space.removeGuard(page)
        case 39 where identifier != .process && random.one(in: 3): space.hasEnded = true
        default: break
        }
    }

    private mutating func anySpace() -> (SpaceIdentifier, FakeSpace)? {
        guard let key = spaces.keys.sorted().randomElement(using: &random), let space = spaces[key] else { return nil }
        return (key, space)
    }

    private mutating func unmap(_ range: Range<UInt64>, in space: FakeSpace) {
        space.unmap(range)
        holes.append(range)
        space.unqueued.append(.unmap(range))
    }

    /// mremap(2) within one mapping, to where the kernel likes: a hole that has just come about before all.
    private mutating func move(_ range: Range<UInt64>, in space: FakeSpace) {
        guard let mapping = space.pages[range.lowerBound]?.mapping else { return }
        let whole = range.prefix { space.pages[$0]?.mapping == mapping && space.pages[$0]?.isRegistered == true }
        guard whole.allSatisfy({ !space.isBeingRemoved($0) }), !whole.isEmpty else { return }
        let count = UInt64(whole.count)
        let hole = holes.last { hole in
            hole.count >= whole.count
                && (hole.lowerBound..<hole.lowerBound + count).allSatisfy {
                    space.pages[$0] == nil && !space.isBeingRemoved($0)
                }
        }
        let target = random.one(in: 4) ? nil : hole?.lowerBound
        let to = target ?? freeArea
        freeArea += 1_000
        nextMapping += 1
        let keepsOld = random.one(in: 4)
        space.move(from: range.lowerBound, to: to, count: count, mapping: nextMapping, keepsOld: keepsOld)
        space.events.append(.remap(from: range.lowerBound, to: to, count: count))
        if !keepsOld {
            // The kernel reports the old place as unmapped, after the move.
            space.unqueued.append(.unmap(range.lowerBound..<range.lowerBound + count))
            holes.append(range.lowerBound..<range.lowerBound + count)
        }
    }

    private mutating func splitMapping(at page: UInt64, in space: FakeSpace) {
        guard let mapping = space.pages[page]?.mapping else { return }
        nextMapping += 1
        for (other, entry) in space.pages where other >= page && entry.mapping == mapping {
            space.pages[other]?.mapping = nextMapping
        }
    }

    /// A stack grows: the new page belongs to the registered mapping, and the source never had it.
    private mutating func grow(_ space: FakeSpace) {
        guard let lowest = space.pages.keys.min(), lowest > 1, lowest < 510, let entry = space.pages[lowest] else {
            return
        }
        space.pages[lowest - 1] = FakePage(expected: .zeros, mapping: entry.mapping, isInherited: entry.isInherited)
    }

    /// A new mapping in a hole: not registered, so it does not fault here.
    private mutating func mapElsewhere(in space: FakeSpace) {
        guard let hole = holes.randomElement(using: &random), hole.allSatisfy({ space.pages[$0] == nil }) else {
            return
        }
        nextMapping += 1
        for page in hole {
            space.pages[page] = FakePage(expected: .zeros, present: .zeros, mapping: nextMapping, isRegistered: false)
        }
    }

    /// Threads that changed an address space come to report it, removals are carried out.
    private mutating func settleKernel(all: Bool) {
        for key in spaces.keys.sorted() {
            guard let space = spaces[key] else { continue }
            while !space.unqueued.isEmpty, all || random.one(in: 2) {
                let index = Int.random(in: space.unqueued.indices, using: &random)
                space.events.append(space.unqueued.remove(at: index))
            }
            while !space.zaps.isEmpty, all || random.one(in: 2) {
                space.zap(space.zaps.removeFirst())
            }
        }
    }

    // MARK: The driver

    /// Reads one userfaultfd: all events, then the faults that are there.
    private mutating func readDescriptor() throws {
        guard let (identifier, space) = anySpace() else { return }
        guard try readEvents(identifier, space) else { return }
        while !space.messages.isEmpty {
            let page = space.messages.removeFirst()
            if space.pages[page] != nil || random.one(in: 2) {
                try answerFault(identifier, space, page)
            }
            try readEvents(identifier, space)
        }
    }

    /// False when the space has ended.
    @discardableResult
    private mutating func readEvents(_ identifier: SpaceIdentifier, _ space: FakeSpace) throws -> Bool {
        guard !space.hasEnded else {
            machine.spaceEnded(identifier)
            journal.append(.step(.spaceEnded(identifier)))
            spaces[identifier] = nil
            return false
        }
        while !space.events.isEmpty {
            let event = space.events.removeFirst()
            journal.append(.event(event, identifier))
            switch event {
            case .remove(let range):
                machine.removed(identifier, AddressRange(pageNumbers: range))
                space.zaps.append(range)
                if random.one(in: 2) { space.zap(space.zaps.removeLast()) }
                try space.wake(range)
            case .unmap(let range):
                if machine.unmapped(identifier, AddressRange(pageNumbers: range)) == .confirm {
                    for page in range where space.pages[page]?.isRegistered != true {
                        let part = AddressRange(pageNumbers: page..<page + 1)
                        machine.unmapConfirmed(identifier, part)
                        journal.append(.step(.unmapConfirmed(identifier, part)))
                    }
                }
                try space.wake(range)
            case .remap(let from, let to, let count):
                machine.remapped(
                    identifier,
                    from: VirtualAddress(pageNumber: from),
                    to: VirtualAddress(pageNumber: to),
                    length: count * PageSize.base
                )
                try space.wake(from..<from + count)
                try space.wake(to..<to + count)
            case .fork(let child):
                guard let new = machine.forked(identifier) else { throw Violation("no child of \(identifier)") }
                spaces[new] = child
            }
        }
        return true
    }

    private mutating func answerFault(_ identifier: SpaceIdentifier, _ space: FakeSpace, _ page: UInt64) throws {
        let address = VirtualAddress(page << 12 + 123)
        switch machine.pageFaulted(identifier, at: address) {
        case .request(let request):
            requests.append(request)
            while let next = machine.nextRequestAhead() { requests.append(next) }
        case .installLocally(let request):
            let pages = request.address.pageNumber..<request.address.pageNumber + UInt64(request.count)
            guard preCopied.count(in: pages) == UInt64(request.count) else { throw Violation("\(pages) are not here") }
            try takeLocally(pages)
            try installPreCopied()
        case .awaitPendingReply, .wake, .awaitEverything, .ignore:
            break
        case .installZeros(let fill):
            guard fill.address.pageNumber == page, fill.space == identifier else { throw Violation("zeros elsewhere") }
            var outcome = try space.install(at: page, count: Int(fill.count)) { _ in .zeros }
            if outcome == .vanished, fill.count > 1 {
                outcome = try space.install(at: page, count: 1) { _ in .zeros }
            }
            switch outcome {
            case .installed(0): space.messages.append(page)  // EAGAIN: ask again after the events.
            case .installed, .vanished: break
            case .alreadyPresent: try space.wake(page..<page + 1)
            }
            if outcome == .vanished { try space.wake(page..<page + 1) }
            if outcome == .installed(0) { settleKernel(all: true) }
        }
    }

    /// Stops the threads of every space and installs the guards that it waits for.
    private mutating func installGuards() throws {
        settleKernel(all: true)
        for (identifier, space) in spaces where try readEvents(identifier, space) {
            while let range = machine.nextPendingGuards(of: identifier) {
                try space.installGuards(range.pageNumbers)
                machine.guardsInstalled(identifier, range)
                journal.append(.step(.guardsInstalled(identifier, range)))
                try space.wake(range.pageNumbers)
            }
        }
    }

    /// One of the receiving threads takes its next pages, or goes on with those it has.
    private mutating func receive(onFault: Bool) throws {
        let thread = onFault ? 0 : 1
        if inHand[thread] == nil {
            guard let arrival = onFault ? try nextReply() : try nextFromBulk() else { return }
            inHand[thread] = Hand(arrival: arrival, first: try machine.pagesArrived(arrival))
        }
        guard var hand = inHand[thread] else { return }
        inHand[thread] = try install(&hand) ? nil : hand
    }

    /// Counts what has been installed: who takes over asks for the rest.
    private mutating func count(_ hand: Hand) throws {
        guard hand.first.count > 0 else { return }
        journal.append(.step(.arrived(hand.arrival.address, hand.first)))
        for index in 0..<Int(hand.arrival.count) where hand.first.contains(index) {
            let page = hand.arrival.address.pageNumber + UInt64(index)
            guard counted.insert(page) else { throw Violation("page \(page) is counted twice") }
        }
    }

    private mutating func takeLocally(_ pages: Range<UInt64>) throws {
        let address = VirtualAddress(pageNumber: pages.lowerBound)
        let arrival = Arrival(address: address, count: UInt32(pages.count), content: .data)
        locals.append(Hand(arrival: arrival, first: try machine.pagesArrived(arrival)))
    }

    /// The thread that installs what was pre-copied, and faults that found their page so.
    private mutating func installPreCopied() throws {
        if locals.isEmpty {
            let limit = UInt64.random(in: 1...64, using: &random)
            guard let run = machine.nextLocalRun(from: 0, limit: limit) else { return }
            try takeLocally(run)
        }
        guard !locals.isEmpty else { return }
        var hand = locals.removeFirst()
        hand.singly = random.one(in: 3)
        if try !install(&hand) { locals.insert(hand, at: 0) }
    }

    /// False when the driver let go of the lock in between.
    private mutating func install(_ hand: inout Hand) throws -> Bool {
        let arrival = hand.arrival
        for (identifier, space) in spaces { try readEvents(identifier, space) }
        while let install = machine.nextInstall(of: arrival, limit: hand.singly ? 1 : 64) {
            guard let space = spaces[install.space] else { throw Violation("an install into \(install.space)") }
            let source = arrival.address.pageNumber + UInt64(install.offset)
            let outcome = try space.install(at: install.address.pageNumber, count: install.count) {
                install.isZeros ? .zeros : .source(source + UInt64($0))
            }
            if let settled = machine.installed(install, outcome) {
                journal.append(.step(.settled(install.space, settled)))
            }
            switch outcome {
            case .installed(0): return false  // EAGAIN: let go of the lock, go on later.
            case .installed: break
            case .alreadyPresent: try space.wake(install.address.pageNumber..<install.address.pageNumber + 1)
            case .vanished: hand.singly = true
            }
            if random.one(in: 4) { return false }
        }
        try count(hand)
        return true
    }

    // MARK: Another driver

    /// The driver dies with all it had in hand, and another one takes over from the journal.
    private mutating func die() throws {
        deaths += 1
        machine = try replayed()
        requests = []
        replies = []
        pipe = []
        streamed = PageSet()
        inHand = [nil, nil]
        locals = []
        for space in spaces.values { try space.wake(0..<UInt64.max) }
        // The source sends what is missing; what was pre-copied is kept when it is known what of it is right.
        if !preCopyPieces.isEmpty || hasForgotten {
            machine.forgetPreCopied()
            hasForgotten = true
        }
        preCopyPieces = []
        if let missing = machine.missingPages(withoutLocal: true) {
            unsent = missing
        } else {
            journal.append(.step(.pageMapForgotten))
            unsent = existing
            unsent.subtract(machine.forgetPartialMap())
            mapPieces = Self.pieces(of: existing, &random)
            guardPieces = guardsAtSource.isEmpty ? [] : Self.pieces(of: guardsAtSource, &random)
        }
    }

    private func replayed() throws -> LazyPages {
        var books = LazyPages(segments: segments)
        for entry in journal {
            switch entry {
            case .step(let step): try books.replay(step)
            case .event(.remove(let range), let space): books.removed(space, AddressRange(pageNumbers: range))
            case .event(.unmap(let range), let space): _ = books.unmapped(space, AddressRange(pageNumbers: range))
            case .event(.remap(let from, let to, let count), let space):
                let (old, new) = (VirtualAddress(pageNumber: from), VirtualAddress(pageNumber: to))
                books.remapped(space, from: old, to: new, length: count * PageSize.base)
            case .event(.fork, let space): _ = books.forked(space)
            }
        }
        return books
    }

    // MARK: The source

    private mutating func answerRequest() {
        guard !requests.isEmpty else { return }
        let request = requests.removeFirst()
        var page = request.address.pageNumber
        let end = page + UInt64(request.count)
        while page < end {
            if let sent = streamed.nextRun(in: max(page, end - UInt64(request.expected))..<end), sent.lowerBound == page
            {
                replies.append(.sent(PageRun(pageNumbers: sent)))
                page = sent.upperBound
                continue
            }
            let content = content(of: page)
            var last = page + 1
            while last < end, self.content(of: last) == content, !random.one(in: 6),
                last < end - UInt64(request.expected) || !streamed.contains(last)
            {
                last += 1
            }
            let address = VirtualAddress(pageNumber: page)
            if let content {
                replies.append(.pages(Arrival(address: address, count: UInt32(last - page), content: content)))
            } else {
                replies.append(.guards(PageRun(address: address, count: last - page)))
            }
            unsent.remove(page..<last)
            page = last
        }
    }

    /// Nil for a guard page.
    private func content(of page: UInt64) -> Arrival.Content? {
        if guardsAtSource.contains(page) { return nil }
        guard existing.contains(page) else { return .absent }
        return zeroAtSource.contains(page) ? .zeros : .data
    }

    private mutating func nextReply() throws -> Arrival? {
        guard !replies.isEmpty else { return nil }
        switch replies.removeFirst() {
        case .pages(let arrival): return arrival
        case .guards(let run):
            try machine.requestMetGuards(run)
            journal.append(.step(.guardsArrived(run)))
            return nil
        case .sent(let run):
            if let pages = machine.sentByStream(run.pageNumbers) { try wake(pages) }
            // The stream may stand still, or seem to.
            while random.one(in: 3), let pages = machine.nextBrokenPromise() { try wake(pages) }
            return nil
        }
    }

    private func wake(_ pages: Range<UInt64>) throws {
        for (identifier, space) in spaces {
            var rest = pages
            while let place = machine.place(of: rest, in: identifier) {
                try space.wake(place.range.pageNumbers)
                rest = place.rest
            }
        }
    }

    /// The next frame of the bulk connection: the page map first, then what nobody asked for.
    private mutating func nextFromBulk() throws -> Arrival? {
        if !guardPieces.isEmpty, mapPieces.count == 1 || random.one(in: 2) {
            let runs = guardPieces.removeFirst()
            try machine.guardsArrived(runs)
            for run in runs { journal.append(.step(.guardsArrived(run))) }
            return nil
        }
        guard mapPieces.isEmpty else {
            let runs = mapPieces.removeFirst()
            try machine.pageMapArrived(runs)
            for run in runs { journal.append(.step(.pageMapArrived(run))) }
            guard mapPieces.isEmpty else { return nil }
            try machine.pageMapCompleted()
            journal.append(.step(.pageMapCompleted))
            return nil
        }
        guard preCopyPieces.isEmpty else {
            let runs = preCopyPieces.removeFirst()
            try machine.preCopyMapArrived(runs)
            for run in runs { journal.append(.step(.preCopyMapArrived(run))) }
            return nil
        }
        if let arrival = nextOfStream() { pipe.append(arrival) }
        return pipe.isEmpty || random.one(in: 2) ? nil : pipe.removeFirst()
    }

    private mutating func nextOfStream() -> Arrival? {
        guard let run = unsent.nextRun(from: 0), let content = content(of: run.lowerBound) else { return nil }
        let limit = UInt64.random(in: 1...64, using: &random)
        let pages = run.prefix { $0 < run.lowerBound + limit && self.content(of: $0) == content }
        unsent.remove(run.lowerBound..<run.lowerBound + UInt64(pages.count))
        streamed.insert(run.lowerBound..<run.lowerBound + UInt64(pages.count))
        let address = VirtualAddress(pageNumber: run.lowerBound)
        return Arrival(address: address, count: UInt32(pages.count), content: content)
    }
}
