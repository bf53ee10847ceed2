// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging
internal import ProcessTrace

/// Which mappings are tracked.
public enum TrackingScope: Sendable {
    /// Private anonymous memory: what a restore makes lazy.
    case privateAnonymous
    /// Everything that can be registered, for `thaw track`.
    ///
    /// Of a private mapping of a file the written pages count, of a shared one all pages; writes to shared memory through another
    /// mapping or by write(2) are not seen.
    case all
}

/// What lies behind a mapping, as far as it decides which of its pages hold data of the process.
enum MappingContent: Hashable {
    case anonymous
    /// Pages of the file itself hold nothing of the process.
    case privateFile
    case shared
}

/// A mapping that is tracked.
struct TrackedMapping {
    var range: AddressRange
    var content: MappingContent
    var nameBytes: [UInt8]
    var device: UInt64
    var inode: UInt64
    /// Offset in the file of address 0 (wrapping), the same for all parts of a mapping that was split.
    var fileBase: UInt64

    /// Nil for what is out of scope.
    init?(_ entry: MapEntry, scope: TrackingScope) {
        guard let content = Self.content(of: entry, scope) else { return nil }
        range = entry.range
        self.content = content
        nameBytes = entry.nameBytes
        device = UInt64(entry.deviceMajor) << 32 | UInt64(entry.deviceMinor)
        inode = entry.inode
        fileBase = entry.inode == 0 ? 0 : entry.offset &- entry.range.lowerBound.rawValue
    }

    /// Whether a page in both may still hold what it held; the kernel knows more, but not less.
    func mayContinue(_ earlier: TrackedMapping) -> Bool {
        content == earlier.content && device == earlier.device && inode == earlier.inode
            && fileBase == earlier.fileBase
    }

    private static func content(of entry: MapEntry, _ scope: TrackingScope) -> MappingContent? {
        // A private mapping of /dev/zero is anonymous memory with a name.
        if !entry.isShared, isAnonymous(entry.nameBytes) || entry.nameBytes.elementsEqual("/dev/zero".utf8) {
            return .anonymous
        }
        guard scope == .all, entry.inode != 0 else { return nil }
        return entry.isShared ? .shared : .privateFile
    }

    /// `[vdso]`, `[vvar]` and other names in brackets are mappings of the kernel.
    private static func isAnonymous(_ name: [UInt8]) -> Bool {
        guard !name.isEmpty else { return true }
        return ["[heap]", "[stack", "[anon:"].contains { name.starts(with: $0.utf8) }
    }
}

/// Neighbouring mappings with the same kind of content; there may be holes between them, but no mapping that is not tracked.
struct MappingSpan {
    var range: AddressRange
    /// Places in ``TrackedMappings/list``.
    var members: Range<Int>
    var content: MappingContent
}

/// The mappings that are tracked, at one moment.
struct TrackedMappings {
    /// Mappings in one span; bounds how long the process waits while they are registered.
    static let spanLimit = 512

    private(set) var list: [TrackedMapping] = []
    private(set) var spans: [MappingSpan] = []

    init() {}

    /// Sorts out what is in scope.
    ///
    /// - Parameter joinsGaps: whether one span may reach over addresses where nothing is mapped.
    init(_ entries: [MapEntry], scope: TrackingScope, joinsGaps: Bool) {
        list.reserveCapacity(entries.count)
        var continues = false
        for entry in entries {
            guard let mapping = TrackedMapping(entry, scope: scope) else {
                continues = false
                continue
            }
            list.append(mapping)
            if continues, let last = spans.last, last.content == mapping.content, last.members.count < Self.spanLimit,
                joinsGaps || last.range.upperBound == mapping.range.lowerBound
            {
                spans[spans.count - 1].range = AddressRange(last.range.lowerBound, mapping.range.upperBound)
                spans[spans.count - 1].members = last.members.lowerBound..<list.count
            } else {
                spans.append(
                    MappingSpan(
                        range: mapping.range,
                        members: list.count - 1..<list.count,
                        content: mapping.content
                    )
                )
            }
            continues = true
        }
    }

    /// Reads the mappings of a process.
    static func read(
        _ pid: Int32,
        _ scope: TrackingScope,
        _ view: PageView,
        _ process: ProcessDescriptor
    ) throws(TrackingError) -> TrackedMappings {
        let entries: [MapEntry]
        do { entries = try ProcessMaps.read(pid) } catch {
            throw TrackingError.of(error, pid: pid, process: process, doing: "read the mappings of")
        }
        guard !entries.isEmpty else {
            throw TrackingError(.noSuchProcess, "process \(pid) has ended, or its first thread has")
        }
        let mappings = TrackedMappings(entries, scope: scope, joinsGaps: view.skipsGaps)
        try view.accept(mappings, pid)
        return mappings
    }

    /// Whether nothing has changed, as far as the list shows.
    private func continues(_ earlier: TrackedMappings) -> Bool {
        guard list.count == earlier.list.count else { return false }
        return zip(list, earlier.list).allSatisfy { $0.range == $1.range && $0.mayContinue($1) }
    }

    /// The parts of a range where no mapping is.
    func uncovered(_ range: AddressRange) -> [AddressRange] {
        var parts: [AddressRange] = []
        var start = range.lowerBound
        var index = firstIndex(endingAbove: start)
        while index < list.count, list[index].range.lowerBound < range.upperBound {
            if start < list[index].range.lowerBound { parts.append(AddressRange(start, list[index].range.lowerBound)) }
            start = max(start, list[index].range.upperBound)
            index += 1
        }
        if start < range.upperBound { parts.append(AddressRange(start, range.upperBound)) }
        return parts
    }

    private func firstIndex(endingAbove address: VirtualAddress) -> Int {
        var low = 0
        var high = list.count
        while low < high {
            let middle = (low + high) / 2
            if list[middle].range.upperBound <= address { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// Pages of `pages` that cannot be what they were at `earlier`: not mapped any more, or of another object.
    func replaced(_ pages: PageSet, since earlier: TrackedMappings) -> PageSet {
        guard !pages.isEmpty, !continues(earlier) else { return PageSet() }
        var kept = PageSet()
        var old = 0
        for mapping in list {
            while old < earlier.list.count, earlier.list[old].range.upperBound <= mapping.range.lowerBound { old += 1 }
            var index = old
            while index < earlier.list.count, let common = earlier.list[index].range.intersection(mapping.range) {
                if mapping.mayContinue(earlier.list[index]) { kept.formUnion(pages, in: common.pageNumbers) }
                index += 1
            }
        }
        var lost = pages
        lost.subtract(kept)
        return lost
    }
}

extension PageSet {
    /// Puts those pages of `other` into the set that lie in `range`.
    mutating func formUnion(_ other: PageSet, in range: Range<UInt64>) {
        var rest = range
        while let run = other.nextRun(in: rest) {
            insert(run)
            rest = run.upperBound..<range.upperBound
        }
    }

    /// Calls `body` with ranges that together hold all pages of the set in `range` and nothing far from them: gaps of fewer than
    /// 512 pages, what one page table spans, are included.
    func forEachCluster<Failure: Error>(
        in range: Range<UInt64>,
        _ body: (Range<UInt64>) throws(Failure) -> Void
    ) throws(Failure) {
        guard var cluster = nextRun(in: range) else { return }
        while let run = nextRun(in: cluster.upperBound..<range.upperBound) {
            if run.lowerBound - cluster.upperBound < 512 {
                cluster = cluster.lowerBound..<run.upperBound
            } else {
                try body(cluster)
                cluster = run
            }
        }
        try body(cluster)
    }
}
