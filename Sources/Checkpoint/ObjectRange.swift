// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging
internal import ProcessImage

/// A mapping of shared memory whose pages arrive lazily.
///
/// Which of them exist the page tables of the process do not tell: what lies in the page cache or in swap without an entry in them is
/// data as well. The object tells; and it is read by read(2), which reads a hole as zeros and leaves it one.
struct ObjectRange: Sendable {
    let range: AddressRange
    /// Where in the object it begins, in bytes.
    let offset: UInt64
    let file: HeldDescriptor

    /// Where a page of it is in the object.
    private func position(of page: UInt64) -> UInt64 {
        offset + page * PageSize.base - range.lowerBound.rawValue
    }

    /// Which of up to 64 pages hold data, bit 0 the first.
    func existing(_ pages: Range<UInt64>) throws(SystemCallError) -> UInt64 {
        var bits: UInt64 = 0
        var page = pages.lowerBound
        while page < pages.upperBound, let found = try firstExisting(from: page), found < pages.upperBound {
            bits |= 1 << (found - pages.lowerBound)
            page = found + 1
        }
        return bits
    }

    private func firstExisting(from page: UInt64) throws(SystemCallError) -> UInt64? {
        let position = position(of: page)
        guard let data = try OpenFileQuestions.firstData(in: file.rawValue, from: position) else { return nil }
        return page + (data - position) / PageSize.base
    }

    /// Passes every run of pages that hold data.
    func survey(_ body: (AddressRange) -> Void) throws(SystemCallError) {
        let end = offset + range.byteCount
        var position = offset
        while position < end, let run = try OpenFileQuestions.nextData(in: file.rawValue, from: position), !run.isEmpty,
            run.lowerBound < end
        {
            let start = range.lowerBound.rawValue + (run.lowerBound - offset) & ~(PageSize.base - 1)
            let bytes = min(run.upperBound, end) - run.lowerBound
            let pages = (bytes + run.lowerBound % PageSize.base + PageSize.base - 1) / PageSize.base
            body(AddressRange(VirtualAddress(start), VirtualAddress(start + pages * PageSize.base)))
            position = run.upperBound
        }
    }

    /// Reads pages; page `n` lands at `place + n * 4096`.
    ///
    /// - Returns: how many lie inside of the object; the others are holes.
    func read(
        _ pages: Range<UInt64>,
        into buffer: TransferBuffer,
        at place: Int
    ) throws(SystemCallError) -> Int {
        let bytes = pages.count * PageSize.baseBytes
        let position = position(of: pages.lowerBound)
        let got = try FileReading.read(file.rawValue, at: position, count: bytes, into: buffer, at: place)
        return got / PageSize.baseBytes
    }
}

extension ProcessDescriber {
    /// Decides which shared objects arrive lazily, and opens those.
    ///
    /// No descriptor of one may be in the process: read(2) by it would not wait for a page. And nothing of it may lie outside of the
    /// mappings, for pages are named by their addresses.
    func chooseLazyObjects() throws -> [ObjectRange] {
        let opened = Set(description.files.descriptions.filter { $0.kind == .memfd }.map(\.object))
        let candidates = description.memory.lazyCandidates.subtracting(opened)
        guard !candidates.isEmpty else { return [] }
        let largest = candidates.sorted { size(of: $0) > size(of: $1) }.prefix(Self.lazyObjectsLimit)
        let mapped = Dictionary(grouping: description.memory.mappings.filter { $0.kind == .sharedObject }, by: \.object)
        var ranges: [ObjectRange] = []
        for index in largest.sorted() {
            let mappings = mapped[index] ?? []
            let file = HeldDescriptor(try FileReading.open(objectAccess[Int(index)]))
            guard try !holdsData(file, outside: mappings) else { continue }
            description.memory.sharedObjects[Int(index)].isLazy = true
            ranges += mappings.map { ObjectRange(range: $0.range, offset: $0.offset, file: file) }
        }
        return ranges.sorted { $0.range.lowerBound < $1.range.lowerBound }
    }

    /// Most objects that arrive lazily: each takes descriptors on both sides.
    private static let lazyObjectsLimit = 64

    private func size(of index: UInt32) -> UInt64 {
        description.memory.sharedObjects[Int(index)].size
    }

    private func holdsData(
        _ file: HeldDescriptor,
        outside mappings: [MappingDescription]
    ) throws(SystemCallError) -> Bool {
        var position: UInt64 = 0
        for mapping in mappings.sorted(by: { $0.offset < $1.offset }) {
            if position < mapping.offset, let data = try OpenFileQuestions.firstData(in: file.rawValue, from: position),
                data < mapping.offset
            {
                return true
            }
            position = mapping.offset + mapping.range.byteCount
        }
        return try OpenFileQuestions.firstData(in: file.rawValue, from: position) != nil
    }
}
