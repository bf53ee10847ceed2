// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem
public import Paging
internal import ProcessTrace

/// The memory of a frozen process, for the threads that serve it.
///
/// Reading never populates a page of the process: the pagemap is asked first.
public struct PageSource: Sendable {
    /// The most pages of one read.
    public static let maximumPages = 64

    /// The process, as this program sees it.
    public let pid: Int32
    /// The VMAs of private memory whose pages arrive lazily, ascending.
    public let lazyRanges: [AddressRange]
    /// Those of shared memory, ascending.
    let objectRanges: [ObjectRange]
    /// Pages of them that go ahead with the eager ones, by number (address >> 12).
    let eagerPages: PageSet
    // Opened once, by who may: those who read need not be able to.
    private let memory: ProcessMemory
    private let pagemap: Pagemap

    init(
        _ memory: ProcessMemory,
        _ pagemap: Pagemap,
        lazyRanges: [AddressRange],
        objectRanges: [ObjectRange] = [],
        eagerPages: PageSet
    ) {
        pid = memory.pid
        self.lazyRanges = lazyRanges
        self.objectRanges = objectRanges
        self.eagerPages = eagerPages
        self.memory = memory
        self.pagemap = pagemap
    }

    /// The memory of a process that runs: what is read may be old when it has been read, and nothing is known to exist.
    ///
    /// - Throws: ``CheckpointError`` when the process is gone.
    public init(running pid: Int32) throws(CheckpointError) {
        self = try CheckpointError.translating(pid, "read the memory of") {
            Self(
                try ProcessMemory(pid: pid),
                try Pagemap(pid: pid),
                lazyRanges: [],
                eagerPages: PageSet()
            )
        }
    }

    /// Pages, in pieces that are either private memory or belong to one mapping of shared memory.
    func parts(of pages: Range<UInt64>) -> [(pages: Range<UInt64>, object: ObjectRange?)] {
        var parts: [(pages: Range<UInt64>, object: ObjectRange?)] = []
        var page = pages.lowerBound
        for object in objectRanges {
            let shared = object.range.pageNumbers.clamped(to: page..<pages.upperBound)
            guard !shared.isEmpty else { continue }
            if page < shared.lowerBound { parts.append((page..<shared.lowerBound, nil)) }
            parts.append((shared, object))
            page = shared.upperBound
        }
        if page < pages.upperBound { parts.append((page..<pages.upperBound, nil)) }
        return parts
    }

    /// A reader for one thread.
    ///
    /// - Returns: a reader that no other thread uses.
    public func makeReader() -> PageReader {
        PageReader(self, memory: memory, pagemap: pagemap)
    }
}

/// Reads pages of a frozen process on one thread; allocates nothing per read.
public final class PageReader {
    private let source: PageSource
    private let memory: ProcessMemory
    private let pagemap: Pagemap
    private let buffer = ScanBuffer()

    /// Pages that one call reads: the kernel lets nobody else run meanwhile, where it does not preempt itself.
    private static let pagesPerCall = 16

    /// Pages that hold data; the kernel shows markers (guard, poison) as swapped.
    private static let existing = PageQuery(anyOf: [.present, .swapped], returning: [.present, .zero, .guardPage])

    init(_ source: PageSource, memory: ProcessMemory, pagemap: Pagemap) {
        self.source = source
        self.memory = memory
        self.pagemap = pagemap
    }

    /// Reads up to ``PageSource/maximumPages`` pages; page `n` lands at `offset + n * 4096`.
    ///
    /// A page that never existed, is a hole or a guard, or holds only zeros leaves its place in the buffer undefined.
    ///
    /// - Parameters:
    ///   - address: of the first page, page-aligned.
    ///   - count: pages, 1 to 64.
    ///   - buffer: receives the bytes.
    ///   - offset: bytes into `buffer`.
    /// - Returns: one bit a page, bit 0 the first: set when the page holds data, clear when it reads as zeros.
    /// - Throws: ``CheckpointError`` when the process is gone.
    public func read(
        _ address: VirtualAddress,
        count: Int,
        into buffer: TransferBuffer,
        at offset: Int
    ) throws(CheckpointError) -> UInt64 {
        precondition(count > 0 && count <= PageSource.maximumPages, "PageReader: 1 to 64 pages at a time")
        do {
            guard !source.objectRanges.isEmpty else { return try readPresent(address, count, buffer, offset) }
            var data: UInt64 = 0
            for part in source.parts(of: address.pageNumber..<address.pageNumber + UInt64(count)) {
                let first = Int(part.pages.lowerBound - address.pageNumber)
                let place = offset + first * PageSize.baseBytes
                let bits =
                    if let object = part.object {
                        try readObject(object, part.pages, buffer, place)
                    } else {
                        try readPresent(
                            VirtualAddress(pageNumber: part.pages.lowerBound),
                            part.pages.count,
                            buffer,
                            place
                        )
                    }
                data |= bits << UInt64(first)
            }
            return data
        } catch {
            throw CheckpointError.of(error, pid: source.pid, doing: "read the memory of")
        }
    }

    private func readObject(
        _ object: ObjectRange,
        _ pages: Range<UInt64>,
        _ target: TransferBuffer,
        _ offset: Int
    ) throws -> UInt64 {
        var data: UInt64 = 0
        var page = 0
        while page < pages.count {
            let step = min(pages.count - page, Self.pagesPerCall)
            let first = pages.lowerBound + UInt64(page)
            let place = offset + page * PageSize.baseBytes
            let got = try object.read(first..<first + UInt64(step), into: target, at: place)
            for index in 0..<got where !Self.isZero(target, place + index * PageSize.baseBytes) {
                data |= 1 << UInt64(page + index)
            }
            page += step
        }
        return data
    }

    private func readPresent(
        _ address: VirtualAddress,
        _ count: Int,
        _ target: TransferBuffer,
        _ offset: Int
    ) throws(TraceError) -> UInt64 {
        let end = address.rawValue + UInt64(count) * PageSize.base
        var present: UInt64 = 0
        try pagemap.scan(AddressRange(address, VirtualAddress(end)), Self.existing, using: buffer) { region in
            guard region.categories.isDisjoint(with: [.zero, .guardPage]) else { return }
            let first = (region.range.lowerBound.rawValue - address.rawValue) / PageSize.base
            present |= Self.bits(region.range.byteCount / PageSize.base) << first
        }
        var data: UInt64 = 0
        var page = 0
        while page < count {
            let rest = present >> UInt64(page)
            page += rest.trailingZeroBitCount
            guard page < count else { break }
            let length = min((~(present >> UInt64(page))).trailingZeroBitCount, count - page)
            data |= try readRun(address, page, length, target, offset)
            page += length
        }
        return data
    }

    /// Reads consecutive pages and tells which of them hold more than zeros.
    private func readRun(
        _ address: VirtualAddress,
        _ first: Int,
        _ length: Int,
        _ target: TransferBuffer,
        _ offset: Int
    ) throws(TraceError) -> UInt64 {
        var data: UInt64 = 0
        var page = first
        while page < first + length {
            let start = VirtualAddress(address.rawValue + UInt64(page) * PageSize.base)
            let place = offset + page * PageSize.baseBytes
            let wanted = min(first + length - page, Self.pagesPerCall) * PageSize.baseBytes
            let got = try memory.read(start, count: wanted, into: target, at: place) / PageSize.baseBytes
            for index in 0..<got where !Self.isZero(target, place + index * PageSize.baseBytes) {
                data |= 1 << UInt64(page + index)
            }
            // What cannot be read although it exists is a marker of another kind (poison): it holds no data.
            page += got < wanted / PageSize.baseBytes ? got + 1 : got
        }
        return data
    }

    private static func isZero(_ buffer: TransferBuffer, _ offset: Int) -> Bool {
        buffer.isZero(offset..<offset + PageSize.baseBytes)
    }

    /// Walks all lazy memory and passes every run of pages that exist, and every run of guard pages (MADV_GUARD_INSTALL).
    ///
    /// The destination is owed the pages that exist and installs nothing on guards. Pages that went ahead as eager ones are left out,
    /// and so are holes and zero pages. Small VMAs are walked first: guards are mostly in those (stacks), and the earlier one is known
    /// the easier it is for the destination.
    ///
    /// - Throws: ``CheckpointError`` when the process is gone.
    public func survey(
        existing: (AddressRange) -> Void,
        guards: (AddressRange) -> Void
    ) throws(CheckpointError) {
        do {
            for range in source.lazyRanges.sorted(by: { $0.byteCount < $1.byteCount }) {
                try pagemap.scan(range, Self.existing, using: buffer) { region in
                    if region.categories.contains(.guardPage) {
                        guards(region.range)
                    } else if !region.categories.contains(.zero) {
                        passLazy(region.range, existing)
                    }
                }
            }
            for object in source.objectRanges { try object.survey(existing) }
        } catch {
            throw CheckpointError.of(error, pid: source.pid, doing: "look at the pages of")
        }
    }

    /// Without the pages that went ahead.
    private func passLazy(_ range: AddressRange, _ body: (AddressRange) -> Void) {
        let end = range.upperBound.rawValue / PageSize.base
        var page = range.lowerBound.rawValue / PageSize.base
        while page < end {
            let eager = source.eagerPages.nextRun(in: page..<end) ?? end..<end
            if page < eager.lowerBound { body(Self.range(page..<eager.lowerBound)) }
            page = eager.upperBound
        }
    }

    /// What a few pages are, without reading them.
    ///
    /// - Parameters:
    ///   - address: of the first page, page-aligned.
    ///   - count: pages, 1 to 64.
    /// - Returns: one bit a page, bit 0 the first, as ``survey(existing:guards:)`` would pass them.
    /// - Throws: ``CheckpointError`` when the process is gone.
    public func look(
        at address: VirtualAddress,
        count: Int
    ) throws(CheckpointError) -> (existing: UInt64, guards: UInt64) {
        precondition(count > 0 && count <= PageSource.maximumPages, "PageReader: 1 to 64 pages at a time")
        var bits = (existing: UInt64(0), guards: UInt64(0))
        do {
            if source.objectRanges.isEmpty {
                let end = VirtualAddress(address.rawValue + UInt64(count) * PageSize.base)
                bits = try lookAtPrivate(AddressRange(address, end))
            } else {
                bits = try lookAtParts(address.pageNumber..<address.pageNumber + UInt64(count))
            }
        } catch {
            throw CheckpointError.of(error, pid: source.pid, doing: "look at the pages of")
        }
        for index in 0..<UInt64(count) where source.eagerPages.contains(address.rawValue / PageSize.base + index) {
            bits.existing &= ~(1 << index)
        }
        return bits
    }

    private func lookAtParts(_ pages: Range<UInt64>) throws -> (existing: UInt64, guards: UInt64) {
        var bits = (existing: UInt64(0), guards: UInt64(0))
        for part in source.parts(of: pages) {
            let seen =
                if let object = part.object {
                    (existing: try object.existing(part.pages), guards: UInt64(0))
                } else {
                    try lookAtPrivate(AddressRange(pageNumbers: part.pages))
                }
            bits.existing |= seen.existing << (part.pages.lowerBound - pages.lowerBound)
            bits.guards |= seen.guards << (part.pages.lowerBound - pages.lowerBound)
        }
        return bits
    }

    private func lookAtPrivate(_ range: AddressRange) throws(TraceError) -> (existing: UInt64, guards: UInt64) {
        var bits = (existing: UInt64(0), guards: UInt64(0))
        try pagemap.scan(range, Self.existing, using: buffer) { region in
            let first = (region.range.lowerBound.rawValue - range.lowerBound.rawValue) / PageSize.base
            if region.categories.contains(.guardPage) {
                bits.guards |= Self.bits(region.range.byteCount / PageSize.base) << first
            } else if !region.categories.contains(.zero) {
                bits.existing |= Self.bits(region.range.byteCount / PageSize.base) << first
            }
        }
        return bits
    }

    /// As many bits, the lowest ones.
    private static func bits(_ pages: UInt64) -> UInt64 {
        pages >= 64 ? .max : (1 << pages) - 1
    }

    private static func range(_ pages: Range<UInt64>) -> AddressRange {
        AddressRange(
            VirtualAddress(pages.lowerBound * PageSize.base),
            VirtualAddress(pages.upperBound * PageSize.base)
        )
    }
}
