// SPDX-License-Identifier: Apache-2.0

/// The timers of sleeping threads of the whole machine, `/proc/timer_list`.
///
/// The list does not tell whose they are. Two looks, before and behind a stop, tell which are gone.
public struct KernelTimers: Hashable, Sendable {
    /// A timer that wakes a thread.
    public struct Entry: Hashable, Sendable {
        /// What the list shows as its address; the same as long as the timer is set.
        public let identity: [UInt8]
        /// CLOCK_MONOTONIC in nanoseconds at which it expires at the earliest.
        public let deadline: Int64
    }

    /// The timers.
    public let entries: [Entry]

    /// How often the list is read.
    private static let passes = 8

    /// Reads the list, several times: what is in any of them is there.
    ///
    /// The kernel lets go of its lock behind each timer and counts from the first one again (kernel/time/timer_list.c), so one that is set
    /// is passed over when an earlier one goes off in this moment: in one of a thousand lists, in one of forty beside threads that
    /// sleep for a tenth of a millisecond, in one of ten when the CPUs are all busy besides. A list takes some 0.2 ms.
    ///
    /// - Throws: ``TraceError`` for anybody but root.
    public static func read() throws(TraceError) -> KernelTimers {
        var known: Set<Entry> = []
        var entries: [Entry] = []
        for _ in 0..<passes {
            for entry in try readOnce().entries where known.insert(entry).inserted { entries.append(entry) }
        }
        return KernelTimers(entries)
    }

    private static func readOnce() throws(TraceError) -> KernelTimers {
        let path = "/proc/timer_list"
        return try KernelTimers(ProcFile.read(path), file: path)
    }

    /// Those that are not set any more, looking no more often than it takes: somebody waits.
    ///
    /// - Parameters:
    ///   - count: when no more than so many seem to be gone early, no list need be read again.
    ///   - moment: those are gone early that would go off later than this, in nanoseconds of CLOCK_MONOTONIC.
    /// - Throws: ``TraceError`` for anybody but root.
    public func vanished(count: Int, before moment: Int64) throws(TraceError) -> [Entry] {
        var gone = entries
        for _ in 0..<Self.passes {
            gone = KernelTimers(gone).vanished(in: try Self.readOnce())
            if gone.count(where: { $0.deadline > moment }) <= count { break }
        }
        return gone
    }

    private init(_ entries: [Entry]) {
        self.entries = entries
    }

    /// Those that are not in a later list.
    public func vanished(in later: KernelTimers) -> [Entry] {
        let left = Set(later.entries)
        return entries.filter { !left.contains($0) }
    }

    /// Parses the text; timers of other functions than hrtimer_wakeup are passed over.
    public init(_ text: [UInt8], file: String) throws(TraceError) {
        var entries: [Entry] = []
        var offset: Int64 = 0
        var identity: [UInt8]?
        for line in text.lines {
            var cursor = ByteCursor(line)
            cursor.skipBlanks()
            if cursor.skip(".offset:") {
                cursor.skipBlanks()
                guard let bits = cursor.signedBits() else { throw .malformed(file, line) }
                offset = Int64(bitPattern: bits)
            } else if cursor.skip("# expires at ") {
                guard let time = cursor.signedBits() else { throw .malformed(file, line) }
                if let known = identity {
                    // Times are of the clock of the base, which is ahead of CLOCK_MONOTONIC by its offset.
                    entries.append(Entry(identity: known, deadline: Int64(bitPattern: time) &- offset))
                }
                identity = nil
            } else if cursor.skip("#") {
                identity = Self.identity(&cursor)
            }
        }
        self.entries = entries
    }

    /// `1: <000000002fb579f0>, hrtimer_wakeup, S:01`.
    private static func identity(_ cursor: inout ByteCursor) -> [UInt8]? {
        guard cursor.number() != nil, cursor.skip(": ") else { return nil }
        let address = cursor.word()
        guard address.last == UInt8(ascii: ","), cursor.skip(.space), cursor.skip("hrtimer_wakeup") else { return nil }
        return Array(address)
    }
}
