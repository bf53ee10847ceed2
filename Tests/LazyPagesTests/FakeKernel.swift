// SPDX-License-Identifier: Apache-2.0
import LazyPages
import TestSupport

/// What a page holds.
enum Content: Hashable {
    /// What the source had on this page.
    case source(UInt64)
    case zeros
    /// Nothing: who touches it gets SIGSEGV.
    case guardPage
    /// What the application wrote.
    case written(Int)
}

/// Something that must never happen happened.
struct Violation: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

/// One page of an address space.
struct FakePage {
    /// What a thread must read.
    var expected: Content
    /// What is there; nil when a touch faults.
    var present: Content?
    /// Which mapping holds it: an install may not cross the border of two.
    var mapping: Int
    /// Whether the mapping is registered with userfaultfd.
    var isRegistered = true
    /// MADV_WIPEONFORK when false.
    var isInherited = true
    /// Whether madvise(2) and fork(2) ran at the same time, so that either content is right.
    var isEither = false
    /// Installs of source data.
    var installs = 0
}

/// One address space as the kernel sees it, with the userfaultfd rules that matter here.
final class FakeSpace {
    enum Event {
        case remove(Range<UInt64>)
        case unmap(Range<UInt64>)
        case remap(from: UInt64, to: UInt64, count: UInt64)
        case fork(FakeSpace)
    }

    var pages: [UInt64: FakePage]
    /// Parked threads by page; true for a write.
    var waiters: [UInt64: [Bool]] = [:]
    /// Fault messages that have not been read.
    var messages: [UInt64] = []
    /// Events that can be read.
    var events: [Event] = []
    /// Events of changes that have been made, whose thread has not come to queueing them.
    var unqueued: [Event] = []
    /// Removals that have been read and not yet carried out.
    var zaps: [Range<UInt64>] = []
    var hasEnded = false
    private var tag = 0

    /// The keys of ``pages`` in a fixed order, made again after mappings changed.
    private var order: [UInt64] = []

    init(pages: [UInt64: FakePage]) {
        self.pages = pages
    }

    /// A page of the space, the same one for the same random number.
    func anyPage(_ random: inout SeededGenerator) -> UInt64? {
        if order.count != pages.count || random.one(in: 50) { order = pages.keys.sorted() }
        return order.randomElement(using: &random)
    }

    /// A change that the handler has not read of makes every install fail with EAGAIN.
    var isChanging: Bool {
        !events.isEmpty || !unqueued.isEmpty
    }

    func isBeingRemoved(_ page: UInt64) -> Bool {
        zaps.contains { $0.contains(page) }
            || events.contains { if case .remove(let range) = $0 { range.contains(page) } else { false } }
    }

    // MARK: What the application does

    func touch(_ page: UInt64, isWrite: Bool) throws {
        guard var entry = pages[page] else { return }
        guard let present = entry.present else {
            waiters[page, default: []].append(isWrite)
            messages.append(page)
            return
        }
        guard present == entry.expected || entry.isEither || isBeingRemoved(page) else {
            throw Violation("page \(page) reads \(present) where \(entry.expected) is right")
        }
        guard isWrite, present != .guardPage else { return }
        tag += 1
        entry.present = .written(tag)
        entry.expected = .written(tag)
        entry.isEither = false
        pages[page] = entry
    }

    func unmap(_ range: Range<UInt64>) {
        for page in range { pages[page] = nil }
    }

    func move(from: UInt64, to: UInt64, count: UInt64, mapping: Int, keepsOld: Bool) {
        let old = (0..<count).map { pages[from + $0] }
        for index in 0..<count {
            guard var entry = old[Int(index)] else { continue }
            let left = FakePage(
                expected: .zeros,
                present: nil,
                mapping: entry.mapping,
                isRegistered: entry.isRegistered
            )
            pages[from + index] = keepsOld ? left : nil
            entry.mapping = mapping
            pages[to + index] = entry
        }
    }

    /// A child; zero pages may be missing in it, because the kernel copies no page tables that only hold the zero page.
    func fork(_ random: inout SeededGenerator) -> FakeSpace {
        let copiesZeros = random.one(in: 2)
        var copies = pages
        for (page, entry) in pages {
            var copy = entry
            copy.installs = 0
            copy.isEither = entry.isEither || isBeingRemoved(page)
            if !entry.isInherited {
                copy.present = copy.isRegistered ? nil : .zeros
                copy.expected = .zeros
            }
            if entry.present == .zeros, entry.isRegistered, !copiesZeros { copy.present = nil }
            copies[page] = copy
        }
        return FakeSpace(pages: copies)
    }

    /// Carries a removal out.
    func zap(_ range: Range<UInt64>) {
        for page in range {
            // Guards stay, and so do pages that have to become some.
            guard var entry = pages[page], entry.expected != .guardPage else { continue }
            entry.present = entry.isRegistered ? nil : .zeros
            entry.expected = .zeros
            entry.isEither = false
            pages[page] = entry
        }
    }

    /// MADV_GUARD_REMOVE.
    func removeGuard(_ page: UInt64) {
        guard var entry = pages[page], entry.present == .guardPage else { return }
        entry.present = entry.isRegistered ? nil : .zeros
        entry.expected = .zeros
        pages[page] = entry
    }

    // MARK: What the handler does

    /// MADV_GUARD_INSTALL, made by a thread of the process while all stand still, where UFFDIO_POISON has found the mapping.
    func installGuards(_ range: Range<UInt64>) throws {
        for page in range {
            guard var entry = pages[page], entry.isRegistered else { continue }
            guard entry.expected == .guardPage else { throw Violation("page \(page) becomes a guard") }
            entry.present = .guardPage
            pages[page] = entry
        }
    }

    func wake(_ range: Range<UInt64>) throws {
        for page in waiters.keys.sorted() where range.contains(page) {
            for isWrite in waiters.removeValue(forKey: page) ?? [] {
                try touch(page, isWrite: isWrite)
            }
        }
    }

    /// UFFDIO_COPY and UFFDIO_ZEROPAGE, `content` by index; wakes what it installs.
    func install(at first: UInt64, count: Int, _ content: (Int) -> Content) throws -> InstallOutcome {
        guard !isChanging else { return .installed(0) }
        let range = first..<first + UInt64(count)
        let mapping = pages[first]?.mapping
        guard range.allSatisfy({ pages[$0]?.isRegistered == true && pages[$0]?.mapping == mapping }) else {
            return .vanished
        }
        for index in 0..<count {
            let page = first + UInt64(index)
            guard var entry = pages[page] else { return .vanished }
            // UFFDIO_COPY overwrites a guard without a word.
            if entry.present == .guardPage, content(index) != .zeros { throw Violation("page \(page) was a guard") }
            guard entry.present == nil else { return index == 0 ? .alreadyPresent : .installed(index) }
            guard entry.expected != .guardPage else { throw Violation("page \(page) has to become a guard") }
            entry.present = content(index)
            guard entry.present == entry.expected || entry.isEither || isBeingRemoved(page) else {
                throw Violation("\(content(index)) is installed on page \(page) where \(entry.expected) is right")
            }
            if case .source = content(index) { entry.installs += 1 }
            guard entry.installs <= 1 else { throw Violation("page \(page) is installed twice") }
            pages[page] = entry
            try wake(page..<page + 1)
        }
        return .installed(count)
    }
}
