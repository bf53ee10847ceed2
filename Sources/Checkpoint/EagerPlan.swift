// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import ProcessTrace

/// Which pages go ahead, in the order in which they are sent.
struct EagerPlan {
    /// A piece that fits into one ``EagerPages``.
    enum Piece: Hashable {
        /// Memory of the process.
        case memory(AddressRange)
        /// Bytes of a shared object, read by a link of `/proc`.
        case object(index: UInt32, access: String, range: Range<UInt64>)
    }

    private(set) var pieces: [Piece] = []
    /// Pages of lazy mappings among them, by number (address >> 12): they are not owed any more.
    private(set) var lazyPages = PageSet()

    /// All pages of a range.
    mutating func add(_ range: AddressRange) {
        let step = UInt64(EagerPages.maximumBytes)
        var start = range.lowerBound.rawValue
        while start < range.upperBound.rawValue {
            let end = min(start + step, range.upperBound.rawValue)
            pieces.append(.memory(AddressRange(VirtualAddress(start), VirtualAddress(end))))
            start = end
        }
    }

    /// A page of a lazy mapping, once.
    mutating func addLazy(page address: UInt64) {
        let number = address / PageSize.base
        guard lazyPages.insert(number) else { return }
        let start = VirtualAddress(number * PageSize.base)
        add(AddressRange(start, VirtualAddress(start.rawValue + PageSize.base)))
    }

    mutating func add(object index: UInt32, access: String, range: Range<UInt64>) {
        var start = range.lowerBound
        while start < range.upperBound {
            let end = min(start + UInt64(EagerPages.maximumBytes), range.upperBound)
            pieces.append(.object(index: index, access: access, range: start..<end))
            start = end
        }
    }
}

extension ProcessDescriber {
    /// Pages that hold data: in memory or in swap, and neither zero page nor marker.
    static let existing = PageQuery(
        anyOf: [.present, .swapped],
        returning: [.present, .swapped, .file, .zero, .guardPage]
    )

    /// The VMAs of private memory whose pages arrive on first touch, ascending.
    var lazyRanges: [AddressRange] {
        description.memory.mappings.filter(\.isLazy).map(\.range)
    }

    /// Decides which pages go ahead.
    func planEagerPages() throws -> EagerPlan {
        var plan = EagerPlan()
        let pagemap = try Pagemap(pid: pid)
        let buffer = ScanBuffer()
        for mapping in description.memory.mappings where mapping.arrivesAhead {
            let onlyWritten = mapping.kind == .privateFile || mapping.kind == .privateObject
            try pagemap.scan(mapping.range, Self.existing, using: buffer) { region in
                guard region.categories.isDisjoint(with: [.zero, .guardPage]) else { return }
                if onlyWritten && region.categories.contains(.file) { return }
                plan.add(region.range)
            }
        }
        try planHotPages(&plan, pagemap, buffer)
        for (index, access) in objectAccess.enumerated() where !description.memory.sharedObjects[index].isLazy {
            let file = try FileReading.open(access)
            var offset: UInt64 = 0
            while let run = try OpenFileQuestions.nextData(in: file.rawValue, from: offset), !run.isEmpty {
                plan.add(object: UInt32(index), access: access, range: run)
                offset = run.upperBound
            }
        }
        return plan
    }

    /// Lazy pages that are needed at once: arguments and environment, which `/proc` reads without waiting, and those that each
    /// thread touches with its first instructions or the kernel on its behalf.
    private func planHotPages(_ plan: inout EagerPlan, _ pagemap: Pagemap, _ buffer: ScanBuffer) throws {
        let layout = description.memory.layout
        var wanted: [UInt64] = []
        for (start, end) in [(layout.argStart, layout.argEnd), (layout.envStart, layout.envEnd)] where start < end {
            wanted += Array(stride(from: start & ~(PageSize.base - 1), to: end, by: Int(PageSize.base)))
        }
        for thread in description.threads {
            let registers = StoppedCall(registers: thread.registers)
            wanted += [
                registers[.rsp], registers[.fsBase], thread.rseqAddress, thread.robustListHead, thread.clearChildTID,
            ]
        }
        let pages = Set(wanted.map { $0 & ~(PageSize.base - 1) }.filter { $0 != 0 }).sorted()
        let lazy = lazyRanges
        for page in pages where lazy.contains(where: { $0.contains(VirtualAddress(page)) }) {
            let range = AddressRange(VirtualAddress(page), VirtualAddress(page + PageSize.base))
            try pagemap.scan(range, Self.existing, using: buffer) { region in
                if region.categories.isDisjoint(with: [.zero, .guardPage]) { plan.addLazy(page: page) }
            }
        }
    }
}

extension MappingDescription {
    /// Whether its pages arrive on first touch.
    var isLazy: Bool {
        kind == .anonymous && !has("lo")
    }

    /// Whether pages of it are at the destination before the process runs; the contents of shared objects go by object.
    var arrivesAhead: Bool {
        switch kind {
        case .anonymous: has("lo")
        case .privateFile, .privateObject: true
        case .sharedFile, .sharedObject, .kernel: false
        }
    }
}
