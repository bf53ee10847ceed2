// SPDX-License-Identifier: Apache-2.0

/// A set of page numbers (address >> 12) that takes memory for what it holds, not for the address space it spans.
///
/// Pages are bits in blocks of 512 (one block covers 2 MiB of addresses); a block takes 64 bytes and an index entry of
/// 14. A dense set of 64 GiB takes 2.5 MiB. The memory of emptied blocks is used again, and given back with the set.
/// Blocks are kept in the order of their addresses, so runs come out ascending.
public struct PageSet: Sendable {
    /// Bits of a page number inside of its block.
    static let blockShift: UInt64 = 9
    /// Pages in a block.
    static let blockPages: UInt64 = 1 << blockShift
    /// Words of 64 bits in a block.
    static let blockWords = 8

    /// Block numbers, ascending.
    ///
    /// Emptied blocks stay until there are many of them, so draining a set moves nothing.
    var keys: [UInt64] = []
    /// Where the words of a block begin, in blocks; parallel to ``keys``.
    var slots: [UInt32] = []
    /// Pages in a block, by slot.
    var populations: [UInt16] = []
    /// Eight words a slot.
    var words: [UInt64] = []
    /// Slots that no key refers to.
    var freeSlots: [UInt32] = []
    /// Keys whose population is zero.
    var emptyKeys = 0

    /// Number of pages in the set.
    public private(set) var count: UInt64 = 0

    /// An empty set.
    public init() {}

    /// Whether no page is in the set.
    public var isEmpty: Bool {
        count == 0
    }

    /// Makes room for pages in `blocks` blocks of 2 MiB, so that inserting them allocates nothing.
    public mutating func reserveCapacity(blocks: Int) {
        keys.reserveCapacity(blocks)
        slots.reserveCapacity(blocks)
        populations.reserveCapacity(blocks)
        words.reserveCapacity(blocks * Self.blockWords)
        freeSlots.reserveCapacity(blocks)
    }
}

// MARK: - One page

extension PageSet {
    /// Whether `page` is in the set.
    public func contains(_ page: UInt64) -> Bool {
        let position = position(of: page >> Self.blockShift)
        guard position < keys.count, keys[position] == page >> Self.blockShift else { return false }
        return words[Self.wordIndex(slot: slots[position], page: page)] & Self.bit(page) != 0
    }

    /// Puts `page` into the set; false when it was there.
    @discardableResult
    public mutating func insert(_ page: UInt64) -> Bool {
        let slot = makeBlock(page >> Self.blockShift)
        let word = Self.wordIndex(slot: slot, page: page)
        guard words[word] & Self.bit(page) == 0 else { return false }
        words[word] |= Self.bit(page)
        populationChanged(slot: slot, by: 1)
        return true
    }

    /// Takes `page` out of the set; false when it was not there.
    @discardableResult
    public mutating func remove(_ page: UInt64) -> Bool {
        let position = position(of: page >> Self.blockShift)
        guard position < keys.count, keys[position] == page >> Self.blockShift else { return false }
        let word = Self.wordIndex(slot: slots[position], page: page)
        guard words[word] & Self.bit(page) != 0 else { return false }
        words[word] &= ~Self.bit(page)
        populationChanged(slot: slots[position], by: -1)
        compactWhenSparse()
        return true
    }
}

// MARK: - Ranges

extension PageSet {
    /// Puts all pages of `range` into the set and returns how many were not there.
    ///
    /// Takes 64 bytes for every 512 pages of the range: bound ranges that come from outside.
    @discardableResult
    public mutating func insert(_ range: Range<UInt64>) -> UInt64 {
        let before = count
        var page = range.lowerBound
        while page < range.upperBound {
            let slot = makeBlock(page >> Self.blockShift)
            let end = Self.endOfBlock(page, limit: range.upperBound)
            var added = 0
            Self.forEachWord(page..<end) { word, mask in
                let index = Int(slot) * Self.blockWords + word
                added += (mask & ~words[index]).nonzeroBitCount
                words[index] |= mask
            }
            populationChanged(slot: slot, by: added)
            page = end
        }
        return count - before
    }

    /// Takes all pages of `range` out of the set and returns how many were there; costs what the set holds, not what
    /// the range spans.
    @discardableResult
    public mutating func remove(_ range: Range<UInt64>) -> UInt64 {
        let before = count
        var position = position(of: range.lowerBound >> Self.blockShift)
        while position < keys.count, keys[position] << Self.blockShift < range.upperBound {
            let piece = Self.clamp(range, toBlock: keys[position])
            let slot = slots[position]
            var removed = 0
            Self.forEachWord(piece) { word, mask in
                let index = Int(slot) * Self.blockWords + word
                removed += (mask & words[index]).nonzeroBitCount
                words[index] &= ~mask
            }
            populationChanged(slot: slot, by: -removed)
            position += 1
        }
        compactWhenSparse()
        return before - count
    }

    /// How many pages of `range` are in the set.
    public func count(in range: Range<UInt64>) -> UInt64 {
        var result: UInt64 = 0
        var position = position(of: range.lowerBound >> Self.blockShift)
        while position < keys.count, keys[position] << Self.blockShift < range.upperBound {
            let slot = slots[position]
            Self.forEachWord(Self.clamp(range, toBlock: keys[position])) { word, mask in
                result += UInt64((mask & words[Int(slot) * Self.blockWords + word]).nonzeroBitCount)
            }
            position += 1
        }
        return result
    }

    /// Whether a page of `range` is in the set.
    public func intersects(_ range: Range<UInt64>) -> Bool {
        guard let page = firstPage(from: range.lowerBound) else { return false }
        return page < range.upperBound
    }

    /// The first run of consecutive pages that ends behind `page`, cut off below `page`; nil when there is none.
    ///
    /// `while let run = set.nextRun(from: position) { position = run.upperBound … }` visits every maximal run,
    /// ascending.
    public func nextRun(from page: UInt64) -> Range<UInt64>? {
        guard let start = firstPage(from: page) else { return nil }
        return start..<endOfRun(from: start)
    }

    /// The first pages of what ``nextRun(from:)`` returns, at most `limit` of them; costs no look at the rest.
    ///
    /// - Parameter limit: more than 0.
    public func nextRun(from page: UInt64, limit: UInt64) -> Range<UInt64>? {
        guard let start = firstPage(from: page) else { return nil }
        let (end, overflows) = start.addingReportingOverflow(limit)
        return start..<endOfRun(from: start, limit: overflows ? .max : end)
    }

    /// As ``nextRun(from:)``, but only inside of `range`.
    public func nextRun(in range: Range<UInt64>) -> Range<UInt64>? {
        guard !range.isEmpty, let start = firstPage(from: range.lowerBound), start < range.upperBound else {
            return nil
        }
        return start..<endOfRun(from: start, limit: range.upperBound)
    }
}

// MARK: - Sets

extension PageSet {
    /// The pages that are in the set and in `range`.
    public func intersection(_ range: Range<UInt64>) -> PageSet {
        var result = PageSet()
        var rest = range
        while let run = nextRun(in: rest) {
            result.insert(run)
            rest = run.upperBound..<range.upperBound
        }
        return result
    }

    /// Puts all pages of `other` into the set.
    public mutating func formUnion(_ other: PageSet) {
        var position: UInt64 = 0
        while let run = other.nextRun(from: position) {
            insert(run)
            position = run.upperBound
        }
    }

    /// Takes all pages of `other` out of the set.
    public mutating func subtract(_ other: PageSet) {
        for (key, slot) in zip(other.keys, other.slots) where other.populations[Int(slot)] > 0 {
            let position = position(of: key)
            guard position < keys.count, keys[position] == key else { continue }
            let own = Int(slots[position]) * Self.blockWords
            let others = Int(slot) * Self.blockWords
            var removed = 0
            for word in 0..<Self.blockWords {
                removed += (words[own + word] & other.words[others + word]).nonzeroBitCount
                words[own + word] &= ~other.words[others + word]
            }
            populationChanged(slot: slots[position], by: -removed)
        }
        compactWhenSparse()
    }

    /// Whether both sets have a page in common.
    public func intersects(_ other: PageSet) -> Bool {
        for (key, slot) in zip(other.keys, other.slots) where other.populations[Int(slot)] > 0 {
            let position = position(of: key)
            guard position < keys.count, keys[position] == key else { continue }
            let own = Int(slots[position]) * Self.blockWords
            let others = Int(slot) * Self.blockWords
            for word in 0..<Self.blockWords where words[own + word] & other.words[others + word] != 0 {
                return true
            }
        }
        return false
    }
}

extension PageSet: Equatable {
    /// Whether both sets hold the same pages, however they came to.
    public static func == (left: PageSet, right: PageSet) -> Bool {
        guard left.count == right.count else { return false }
        var position: UInt64 = 0
        while let run = left.nextRun(from: position) {
            guard right.nextRun(from: position) == run else { return false }
            position = run.upperBound
        }
        return true
    }
}

// MARK: - Blocks

extension PageSet {
    /// Where the first key that is not below `key` stands.
    private func position(of key: UInt64) -> Int {
        guard let last = keys.last, key <= last else { return keys.count }
        var low = 0
        var high = keys.count - 1
        while low < high {
            let middle = (low + high) >> 1
            if keys[middle] < key { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// The slot of a block, made empty when there was none.
    private mutating func makeBlock(_ key: UInt64) -> UInt32 {
        let position = position(of: key)
        if position < keys.count, keys[position] == key { return slots[position] }
        let slot: UInt32
        if let free = freeSlots.popLast() {
            slot = free
        } else {
            slot = UInt32(populations.count)
            populations.append(0)
            for _ in 0..<Self.blockWords { words.append(0) }
        }
        keys.insert(key, at: position)
        slots.insert(slot, at: position)
        emptyKeys += 1
        return slot
    }

    private mutating func populationChanged(slot: UInt32, by change: Int) {
        guard change != 0 else { return }
        let before = populations[Int(slot)]
        let after = UInt16(Int(before) + change)
        populations[Int(slot)] = after
        if before == 0 { emptyKeys -= 1 }
        if after == 0 { emptyKeys += 1 }
        count = change > 0 ? count + UInt64(change) : count - UInt64(-change)
    }

    /// Takes emptied blocks out of the index when most are empty, so that the cost of one removal stays constant on
    /// average.
    ///
    /// In place: a set whose room was reserved allocates nothing.
    private mutating func compactWhenSparse() {
        guard emptyKeys > 64, emptyKeys > keys.count / 2 else { return }
        var kept = 0
        for position in keys.indices {
            if populations[Int(slots[position])] > 0 {
                keys[kept] = keys[position]
                slots[kept] = slots[position]
                kept += 1
            } else {
                freeSlots.append(slots[position])
            }
        }
        keys.removeLast(keys.count - kept)
        slots.removeLast(slots.count - kept)
        emptyKeys = 0
    }

    /// The first page of the set that is not below `page`.
    private func firstPage(from page: UInt64) -> UInt64? {
        var position = position(of: page >> Self.blockShift)
        while position < keys.count {
            let base = keys[position] << Self.blockShift
            let first = Int(Self.offset(page, inBlockAt: base))
            if populations[Int(slots[position])] > 0, let found = firstSetBit(slot: slots[position], from: first) {
                return base + UInt64(found)
            }
            position += 1
        }
        return nil
    }

    /// The first page from `start`, which is in the set, that is not, at most `limit`.
    private func endOfRun(from start: UInt64, limit: UInt64 = .max) -> UInt64 {
        var position = position(of: start >> Self.blockShift)
        var page = start
        while page < limit, position < keys.count, keys[position] == page >> Self.blockShift {
            let base = keys[position] << Self.blockShift
            if let end = firstClearBit(slot: slots[position], from: Int(page - base)) {
                return min(limit, base + UInt64(end))
            }
            page = base + Self.blockPages
            position += 1
        }
        return min(limit, page)
    }

    private func firstSetBit(slot: UInt32, from first: Int) -> Int? {
        firstBit(slot: slot, from: first, flip: 0)
    }

    private func firstClearBit(slot: UInt32, from first: Int) -> Int? {
        firstBit(slot: slot, from: first, flip: .max)
    }

    private func firstBit(slot: UInt32, from first: Int, flip: UInt64) -> Int? {
        var word = first >> 6
        guard word < Self.blockWords else { return nil }
        let base = Int(slot) * Self.blockWords
        var bits = (words[base + word] ^ flip) & (UInt64.max << UInt64(first & 63))
        while bits == 0 {
            word += 1
            guard word < Self.blockWords else { return nil }
            bits = words[base + word] ^ flip
        }
        return word << 6 + bits.trailingZeroBitCount
    }
}

// MARK: - Arithmetic

extension PageSet {
    private static func bit(_ page: UInt64) -> UInt64 {
        1 << (page & 63)
    }

    private static func wordIndex(slot: UInt32, page: UInt64) -> Int {
        Int(slot) * blockWords + Int((page >> 6) & 7)
    }

    /// Where `page` lies in the block that begins at `base`; 0 when it lies before it.
    private static func offset(_ page: UInt64, inBlockAt base: UInt64) -> UInt64 {
        page > base ? page - base : 0
    }

    private static func endOfBlock(_ page: UInt64, limit: UInt64) -> UInt64 {
        let (end, overflow) = ((page >> blockShift) << blockShift).addingReportingOverflow(blockPages)
        return overflow ? limit : min(end, limit)
    }

    /// The part of `range` in block `key`.
    private static func clamp(_ range: Range<UInt64>, toBlock key: UInt64) -> Range<UInt64> {
        let base = key << blockShift
        let lower = max(range.lowerBound, base)
        return lower..<max(lower, endOfBlock(base, limit: range.upperBound))
    }

    /// Calls `body` with each word (0 to 7) of one block that `range`, which lies in one block, touches, and the bits
    /// it touches.
    private static func forEachWord(_ range: Range<UInt64>, _ body: (Int, UInt64) -> Void) {
        guard !range.isEmpty else { return }
        let first = Int(range.lowerBound & (blockPages - 1))
        let last = first + range.count - 1
        for word in (first >> 6)...(last >> 6) {
            let low = UInt64(max(first, word << 6) & 63)
            let high = UInt64(min(last, word << 6 + 63) & 63)
            body(word, (UInt64.max << low) & (UInt64.max >> (63 - high)))
        }
    }
}
