// SPDX-License-Identifier: Apache-2.0
//
// Fields are named as in proc(5) and in the calls that set them; those that need more words have them.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// Descriptors and the open file descriptions behind them.
public struct FileTable: ArchivedValue, Equatable {
    public var descriptors: [DescriptorEntry] = []
    /// Descriptions that descriptors and epoll watches refer to by index.
    public var descriptions: [OpenFile] = []
    /// Pipes that descriptions refer to by index.
    public var pipes: [Pipe] = []

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&descriptors)
        try archive.field(&descriptions)
        try archive.field(&pipes)
        guard descriptors.allSatisfy({ Int($0.description) < descriptions.count }) else {
            throw ProcessImageError("a descriptor of an open file that is not described")
        }
    }
}

/// One slot of the descriptor table.
public struct DescriptorEntry: ArchivedValue, Equatable {
    public var number: Int32 = 0
    /// Index into ``FileTable/descriptions``; equal for descriptors made by dup(2).
    public var description: UInt32 = 0
    public var closeOnExec = false

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&number)
        try archive.field(&description)
        try archive.field(&closeOnExec)
    }
}

/// One open file description, open(2).
public struct OpenFile: ArchivedValue, Equatable {
    public enum Kind: UInt8, Sendable {
        /// A regular file or directory by its path.
        case path = 0
        /// `/dev/null`, `zero`, `full`, `random`, `urandom` by their path.
        case device = 1
        /// An end of a pipe or FIFO whose ends are all inside of the process.
        case pipe = 2
        case eventfd = 3
        case epoll = 4
        case timerfd = 5
        case signalfd = 6
        case memfd = 7
        /// A terminal, or a pipe to another program, on descriptors 0, 1 or 2: the restorer's own takes its place.
        case standardStream = 8
    }

    public var kind = Kind.path
    /// Path; for a standard stream empty.
    public var path = ""
    /// open(2) flags as F_GETFL and fdinfo show them (access mode, O_APPEND, O_NONBLOCK, O_PATH, O_DIRECTORY ...).
    public var flags: UInt32 = 0
    /// File offset in bytes.
    public var offset: Int64 = 0
    /// Index into files of ``MemoryDescription``, pipes, or shared objects, by kind; `UInt32.max` for none.
    public var object: UInt32 = .max
    /// eventfd: counter.
    ///
    /// timerfd: ticks. signalfd: mask. standard stream: the number 0, 1 or 2.
    public var value: UInt64 = 0
    /// eventfd: EFD_SEMAPHORE.
    ///
    /// timerfd: clock id. pipe: 1 for a FIFO's path in `path`.
    public var detail: Int32 = 0
    /// timerfd: settime flags; `timer` is the time left and the period.
    public var timerFlags: UInt32 = 0
    public var timer = IntervalTimer()
    public var watches: [EpollWatch] = []
    /// Owner of SIGIO (F_GETOWN_EX type and id) and F_GETSIG; 0 for none.
    public var ownerType: Int32 = 0
    public var owner: Int32 = 0
    public var ownerSignal: Int32 = 0

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&kind)
        try archive.field(&path)
        try archive.field(&flags)
        try archive.field(&offset)
        try archive.field(&object)
        try archive.field(&value)
        try archive.field(&detail)
        try archive.field(&timerFlags)
        try archive.field(&timer)
        try archive.field(&watches)
        try archive.field(&ownerType)
        try archive.field(&owner)
        try archive.field(&ownerSignal)
    }
}

/// One watch of an epoll instance, epoll_ctl(2).
public struct EpollWatch: ArchivedValue, Equatable {
    /// The descriptor number that the watch was added with (it may have been closed or replaced since).
    public var number: Int32 = 0
    /// Index into ``FileTable/descriptions`` of what is watched.
    public var description: UInt32 = 0
    public var events: UInt32 = 0
    public var data: UInt64 = 0

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&number)
        try archive.field(&description)
        try archive.field(&events)
        try archive.field(&data)
    }
}

/// A pipe inside of the process, with what is in it.
public struct Pipe: ArchivedValue, Equatable {
    /// F_GETPIPE_SZ in bytes.
    public var capacity: UInt32 = 0
    public var content: [UInt8] = []
    /// Whether O_DIRECT (packet mode) is set; then ``packets`` tells the borders.
    public var packets: [UInt32] = []

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&capacity)
        try archive.field(&content)
        try archive.field(&packets)
    }
}
