// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
public import LinuxSystem

/// What becomes of the process when its restorer dies.
public enum JournalPhase: Hashable, Sendable {
    /// Nobody takes over: nothing has run yet, nothing is owed, or the journal is full.
    case idle
    /// A new restorer takes over.
    case owed
}

/// What a new restorer has to know besides the records.
///
/// The descriptors are numbers that it has as well.
public struct JournalFacts: Sendable {
    /// The restored process as this program sees it.
    public var pid: Int32
    /// The process, pidfd_open(2).
    public var process: Int32
    /// Its userfaultfd.
    public var userfaultfd: Int32
    /// What was agreed on it.
    public var features: UserfaultFeatures
    /// The guardian, and the channel to it.
    public var guardian: (pid: Int32, channel: Int32)
    /// The secret of the session, 32 bytes.
    public var session: [UInt8]
    /// When the process was frozen, on the clock of this machine.
    public var froze: MonotonicTime
    /// Whether the process was stopped because its source is lost.
    public var isStopped = false
    /// The memory of what was pre-copied; -1 when nothing was.
    public var staged: Int32 = -1
    /// The userfaultfd of its lazy shared memory; -1 when it has none.
    public var objects: Int32 = -1

    /// All facts.
    public init(
        pid: Int32,
        process: Int32,
        userfaultfd: Int32,
        features: UserfaultFeatures,
        guardian: (pid: Int32, channel: Int32),
        session: [UInt8],
        froze: MonotonicTime
    ) {
        precondition(session.count == 32, "JournalFacts: the secret has 32 bytes")
        self.pid = pid
        self.process = process
        self.userfaultfd = userfaultfd
        self.features = features
        self.guardian = guardian
        self.session = session
        self.froze = froze
    }
}

/// A record: a kind (not 255), a space, and four words.
///
/// The first word of the kind ``keptDescriptor`` is the number of a descriptor that the next restorer gets.
public struct JournalRecord: Hashable, Sendable {
    /// What holds a descriptor.
    public static let keptDescriptor = clinux_journal_descriptor

    /// What it means is up to the user.
    public var kind: UInt8
    /// The space that it is about.
    public var space: UInt32
    /// First word.
    public var first: UInt64
    /// Second word.
    public var second: UInt64
    /// Third word.
    public var third: UInt64
    /// Fourth word.
    public var fourth: UInt64

    /// A record.
    public init(
        kind: UInt8,
        space: UInt32 = 0,
        _ first: UInt64 = 0,
        _ second: UInt64 = 0,
        _ third: UInt64 = 0,
        _ fourth: UInt64 = 0
    ) {
        precondition(kind != clinux_journal_event, "JournalRecord: that kind is for messages")
        self.kind = kind
        self.space = space
        self.first = first
        self.second = second
        self.third = third
        self.fourth = fourth
    }

    fileprivate var raw: clinux_journal_record {
        clinux_journal_record(words: (clinux_journal_first_word(kind, 0, space), first, second, third, fourth))
    }
}

/// What was noted.
public enum JournalEntry: Hashable, Sendable {
    /// A message of the userfaultfd of a space.
    case event(UserfaultEvent, space: UInt32)
    /// Something else.
    case record(JournalRecord)
}

/// Shared memory in which a restorer notes what somebody else has to know when it dies, at whatever instruction.
///
/// A message of a userfaultfd is gone from the kernel once it is read, and the thread that it is about goes on; so messages are read
/// straight into this memory, and noted in their order before anything else is. (The kernel stores what a read(2) returns before it
/// lets the caller see even SIGKILL.) Page faults are not noted: threads ask again when they are woken.
///
/// Records are added by one thread at a time; facts and phase are the business of one other thread.
@safe
public final class EventJournal: Sendable {
    /// Bytes, of which only those that are written take memory: 26 million records; most are of a whole frame of pages.
    public static let usualSize = 1 << 30

    private let size: Int
    private let file: MemoryFile
    // SAFETY: the C side orders what several processes and threads see; see above for who writes what.
    private nonisolated(unsafe) let buffer: TransferBuffer
    private var base: UnsafeMutableRawPointer {
        unsafe buffer.pointer(at: 0, count: size)
    }

    /// An empty one.
    ///
    /// - Parameter size: bytes, a multiple of the page size, of which the first 8 KiB are no records. One of another size than the usual is
    ///   not taken over.
    public init(size: Int = usualSize) throws(SystemCallError) {
        var file = try MemoryFile(name: "thaw-journal")
        unsafe buffer = try file.grow(by: size)
        self.file = file
        self.size = size
        // SAFETY: the mapping is as large as it says.
        unsafe clinux_journal_begin(base, size)
    }

    /// The one that a restorer has left which is dead.
    ///
    /// - Throws: ``SystemCallError`` with EINVAL when it is none of this program.
    public init(inherited descriptor: consuming OwnedDescriptor) throws(SystemCallError) {
        var file = MemoryFile(adopting: descriptor)
        size = Self.usualSize
        unsafe buffer = try file.grow(by: size)
        self.file = file
        // SAFETY: the mapping is as large as it says.
        guard unsafe clinux_journal_is_valid(base, size) == 1 else {
            throw SystemCallError("mmap", .invalid, operand: "the journal of a restorer")
        }
        unsafe clinux_journal_recover_inbox(base)
    }

    /// Whether somebody takes over.
    public var phase: JournalPhase {
        get {
            // SAFETY: one atomic word of the mapping.
            unsafe clinux_journal_phase(base) == CLINUX_JOURNAL_OWED ? .owed : .idle
        }
        set {
            // SAFETY: as above.
            unsafe clinux_journal_set_phase(base, newValue == .owed ? CLINUX_JOURNAL_OWED : CLINUX_JOURNAL_IDLE)
        }
    }

    /// Says whether threads of the process are stopped and have their registers changed: nobody takes over then, for they would be lost.
    ///
    /// May be said by any thread.
    public func setAtWork(_ isAtWork: Bool) {
        // SAFETY: one atomic word of the mapping.
        unsafe clinux_journal_set_at_work(base, isAtWork ? 1 : 0)
    }

    /// Whether somebody would take over if this program died now.
    public var canBeTakenOver: Bool {
        // SAFETY: atomic words of the mapping.
        unsafe clinux_journal_can_be_taken_over(base) == 1
    }

    /// Whether something could not be noted: nobody takes over any more.
    public var isFull: Bool {
        // SAFETY: one atomic word of the mapping.
        unsafe clinux_journal_is_full(base) == 1
    }

    /// The facts; to be written before the phase says that somebody takes over.
    public var facts: JournalFacts {
        get {
            // SAFETY: the mapping holds them.
            let facts = unsafe clinux_journal_read_facts(base)
            // SAFETY: 32 bytes of a value that lives here.
            let session = unsafe withUnsafeBytes(of: facts.session) { unsafe Array($0) }
            var known = JournalFacts(
                pid: facts.pid,
                process: facts.pidfd,
                userfaultfd: facts.uffd,
                features: UserfaultFeatures(rawValue: facts.features),
                guardian: (facts.guardian, facts.guardian_channel),
                session: session,
                froze: MonotonicTime(nanoseconds: facts.froze)
            )
            known.isStopped = facts.is_stopped != 0
            known.staged = facts.staged
            known.objects = facts.objects
            return known
        }
        set {
            var facts = clinux_journal_facts()
            facts.pid = newValue.pid
            facts.pidfd = newValue.process
            facts.uffd = newValue.userfaultfd
            facts.guardian = newValue.guardian.pid
            facts.guardian_channel = newValue.guardian.channel
            facts.features = newValue.features.rawValue
            facts.froze = newValue.froze.nanoseconds
            facts.is_stopped = newValue.isStopped ? 1 : 0
            facts.staged = newValue.staged
            facts.objects = newValue.objects
            // SAFETY: both have 32 bytes.
            unsafe withUnsafeMutableBytes(of: &facts.session) { unsafe $0.copyBytes(from: newValue.session) }
            // SAFETY: the mapping has room for them.
            unsafe clinux_journal_write_facts(base, facts)
        }
    }

    /// Adds a record.
    ///
    /// - Returns: false when there is no room; then nobody takes over any more.
    @discardableResult
    public func add(_ record: JournalRecord) -> Bool {
        // SAFETY: the C side checks the room.
        unsafe clinux_journal_append(base, record.raw) == 0
    }

    /// The record that was added last; nil when that was a message, or when there is none.
    public var latest: JournalRecord? {
        let count = count
        guard count > 0, case .record(let record) = self[count - 1] else { return nil }
        return record
    }

    /// Changes the record that was added last, so that many small steps take little memory.
    ///
    /// Whoever takes over finds it as it was or as it is to be, as long as only one word differs, or besides the kind only words that mean
    /// nothing in a record of the old kind.
    ///
    /// - Precondition: ``latest`` is not nil.
    public func amendLatest(_ record: JournalRecord) {
        precondition(latest != nil, "EventJournal: nothing to amend")
        // SAFETY: there is such a record.
        unsafe clinux_journal_amend(base, record.raw)
    }

    /// How many entries there are.
    public var count: UInt64 {
        // SAFETY: one atomic word of the mapping.
        unsafe clinux_journal_count(base)
    }

    /// An entry.
    ///
    /// - Precondition: `index` is less than ``count``.
    public subscript(_ index: UInt64) -> JournalEntry {
        precondition(index < count, "EventJournal: no such entry")
        // SAFETY: a record that is there whole.
        let words = unsafe clinux_journal_read(base, index).words
        let (kind, space) = (UInt8(truncatingIfNeeded: words.0), UInt32(truncatingIfNeeded: words.0 >> 32))
        guard kind == clinux_journal_event else {
            return .record(JournalRecord(kind: kind, space: space, words.1, words.2, words.3, words.4))
        }
        var message = (words.1, words.2, words.3, words.4)
        // SAFETY: four words are one message; nothing keeps the pointer.
        return .event(UserfaultEvent(unsafe clinux_uffd_decode(&message, 0)), space: space)
    }

    /// Reads messages of the userfaultfd of a space, and notes them.
    func read(_ number: Int32, space: UInt32, limit: Int, into bytes: UnsafeMutableRawBufferPointer) -> Int64 {
        let capacity = min(limit, bytes.count / clinux_uffd_message_size)
        // SAFETY: the inbox is a part of the mapping.
        let count = unsafe clinux_journal_read_events(base, number, space, capacity)
        guard count > 0 else { return count }
        // SAFETY: the C side has stored so many messages; the buffer has room for more.
        unsafe bytes.copyMemory(
            from: UnsafeRawBufferPointer(
                start: base + clinux_journal_inbox_offset,
                count: Int(count) * clinux_uffd_message_size
            )
        )
        return count
    }
}

/// The keeper: a process that shares the descriptors of this one, so that nothing is closed when this one dies, and starts this program
/// again when that happens with pages owed.
public final class Keeper: Sendable {
    /// Where the number of the journal's descriptor stands for the program that is started again.
    private static let variable = "THAW_JOURNAL_DESCRIPTOR"

    /// The keeper, which may have ended.
    public let process: ProcessDescriptor
    private let pid: Int32
    private let journal: EventJournal

    /// Starts a keeper.
    public init(over journal: EventJournal) throws(SystemCallError) {
        pid = try checked("clone", journal.startKeeper(Self.variable), operand: "keeper")
        do throws(SystemCallError) {
            process = try ProcessDescriptor(pid: pid)
        } catch {
            _ = clinux_keeper_end(pid)
            throw error
        }
        self.journal = journal
    }

    /// Ends it; nobody starts this program again.
    public func end() {
        _ = clinux_keeper_end(pid)
    }

    /// Ends the keeper that has started this program; the new one must be there.
    public func replaceParent() {
        let parent = journal.parentKeeper
        if parent > 0 { _ = clinux_keeper_end(parent) }
    }

    /// What a restorer has left that died; nil when this program was started by somebody else.
    ///
    /// Found once: the variable is removed. To be called before the first thread.
    public static func inheritedJournal() throws(SystemCallError) -> EventJournal? {
        guard let descriptor = OwnedDescriptor.inherited(by: variable) else { return nil }
        FaultPoint.forgetPlan()
        return try EventJournal(inherited: descriptor)
    }
}

extension EventJournal {
    fileprivate func startKeeper(_ variable: String) -> Int32 {
        // SAFETY: a NUL-terminated text that lives through the call; the keeper has its own view of the same memory.
        unsafe clinux_keeper_start(base, file.descriptor, variable)
    }

    fileprivate var parentKeeper: Int32 {
        // SAFETY: one atomic word of the mapping.
        unsafe clinux_keeper_parent(base)
    }
}
