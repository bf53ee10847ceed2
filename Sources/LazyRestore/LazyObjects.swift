// SPDX-License-Identifier: Apache-2.0
internal import LazyPages
internal import LinuxSystem
internal import Paging
internal import Restore
internal import Userfaultfd

/// The lazy shared memory of a restored process: its objects, and the userfaultfds of those who miss pages of it.
///
/// The kernel says "removed" for MADV_DONTNEED, after which shared memory keeps its contents, and for MADV_REMOVE, after which it is zeros.
/// So no event is read before all pages are there: then both do the right thing by themselves. Whoever forks, moves or gives back shared
/// memory waits until then, and all of it is asked for at once.
struct LazyObjects: Sendable {
    /// A mapping, as it was at the source.
    struct Mapping: Hashable, Sendable {
        var pages: Range<UInt64>
        /// Which of the windows.
        var object: Int
        /// Where in the object it begins, in bytes.
        var offset: UInt64
    }

    /// When an object was last modified, in nanoseconds.
    struct Modification: Hashable, Sendable {
        var descriptor: Int32
        var time: Int64
    }

    /// A removal whose event was read too early: what it does is known a little later.
    struct Removal: Sendable {
        var range: AddressRange
        var decision: Deadline
    }

    /// How long a thread whose event has been read may take to do what it announced.
    static let removalTime = Duration.seconds(1)

    /// Ascending.
    let mappings: [Mapping]
    let windows: ObjectWindows
    /// When each object was last modified before the process ran, or before the last removal that was read too early.
    private(set) var modified: [Int64]
    let pending: PendingFaults
    /// Of the process, and then of children whose fork could not wait.
    var handles: [AddressSpaceHandle]
    /// Whether all of it is there: from now on events are read, and a page that is missing is zeros.
    var isComplete = false
    /// Whether an event waits for that.
    var isHeld = false
    /// How long a fork may hold up private memory.
    var forkPatience = Duration.milliseconds(20)
    /// Since when a fork holds up private memory because its event for this memory has not been read.
    var stuckSince: MonotonicTime?
    var removals: [Removal] = []
    /// What this program still has in its page tables.
    private var recent: (object: Int, range: Range<UInt64>)?

    /// Those of a process that has just been built.
    init(_ objects: [PartialProcess.LazyObject], uffd: consuming Userfaultfd) throws(SystemCallError) {
        var files: [HeldDescriptor] = []
        var mappings: [Mapping] = []
        for object in objects {
            let index = files.firstIndex { $0 === object.file } ?? files.count
            if index == files.count { files.append(object.file) }
            mappings.append(Mapping(pages: object.range.pageNumbers, object: index, offset: object.offset))
        }
        let windows = try ObjectWindows(of: files)
        var modified: [Int64] = []
        for index in files.indices { modified.append(try windows.modified(index)) }
        try self.init(mappings, windows, modified: modified, uffd: uffd)
    }

    /// Those that another program has left.
    init(
        _ mappings: [Mapping],
        _ windows: ObjectWindows,
        modified: [Int64],
        uffd: consuming Userfaultfd
    ) throws(SystemCallError) {
        self.mappings = mappings.sorted { $0.pages.lowerBound < $1.pages.lowerBound }
        self.windows = windows
        self.modified = modified
        pending = try PendingFaults(of: uffd)
        handles = [AddressSpaceHandle(.objects, uffd)]
    }

    /// For the books.
    var segments: [Segment] { mappings.map { Segment(AddressRange(pageNumbers: $0.pages)) } }

    /// The mapping of a page.
    func mapping(of page: UInt64) -> Mapping? {
        var low = 0
        var high = mappings.count
        while low < high {
            let middle = (low + high) >> 1
            if mappings[middle].pages.upperBound <= page { low = middle + 1 } else { high = middle }
        }
        return low < mappings.count && mappings[low].pages.contains(page) ? mappings[low] : nil
    }

    /// Puts pages of one mapping into their object; nobody is woken.
    mutating func install(
        _ pages: Range<UInt64>,
        from buffer: TransferBuffer?,
        at offset: Int
    ) throws(SystemCallError) -> CopyOutcome {
        guard let mapping = mapping(of: pages.lowerBound) else { return .vanished }
        let position = mapping.offset + (pages.lowerBound - mapping.pages.lowerBound) * PageSize.base
        let end = position + UInt64(pages.count) * PageSize.base
        // Behind its end an object has no pages.
        guard end <= windows.byteCount(of: mapping.object), pages.upperBound <= mapping.pages.upperBound else {
            return .vanished
        }
        remember(position..<end, of: mapping.object)
        guard let buffer else { return try windows.zero(position, of: mapping.object, pages: pages.count) }
        return try windows.copy(from: buffer, at: offset, to: position, of: mapping.object, pages: pages.count)
    }

    /// Most bytes that this program has in its page tables.
    private static let recentBytes: UInt64 = 2 << 20

    private mutating func remember(_ range: Range<UInt64>, of object: Int) {
        var all = range
        if let known = recent {
            let union = min(known.range.lowerBound, range.lowerBound)..<max(known.range.upperBound, range.upperBound)
            let mayGrow = known.object == object && UInt64(union.count) <= Self.recentBytes
            if mayGrow { all = union } else { forgetRecent() }
        }
        recent = (object, all)
    }

    /// Gives back the page tables of this program.
    mutating func forgetRecent() {
        guard let known = recent else { return }
        windows.forget(known.range, of: known.object)
        recent = nil
    }

    /// Whether a page is in its object.
    func holds(_ page: UInt64) throws(SystemCallError) -> Bool {
        guard let mapping = mapping(of: page) else { return false }
        return try windows.holds(mapping.offset + (page - mapping.pages.lowerBound) * PageSize.base, of: mapping.object)
    }

    /// The object of a range that was removed: the kernel tells of each mapping by itself.
    private func object(of range: AddressRange) -> Int? {
        let pages = range.pageNumbers
        return mappings.first { !$0.pages.clamped(to: pages).isEmpty }?.object
    }

    /// Whether something has been taken out of the object of these addresses since that was looked at last.
    func wasModified(_ range: AddressRange) throws(SystemCallError) -> Bool {
        guard let object = object(of: range) else { return false }
        return try windows.modified(object) != modified[object]
    }

    /// Takes note of what has been taken out until now.
    mutating func lookAtModification(of range: AddressRange) throws(SystemCallError) -> Modification? {
        guard let object = object(of: range) else { return nil }
        modified[object] = try windows.modified(object)
        return modification(of: object)
    }

    /// For the journal.
    func modification(of object: Int) -> Modification {
        Modification(descriptor: windows.descriptor(of: object), time: modified[object])
    }
}
