// SPDX-License-Identifier: Apache-2.0

/// `/proc/PID/fdinfo/N`, proc_pid_fdinfo(5).
public struct FdInfo: Hashable, Sendable {
    /// File offset in bytes.
    public var position: Int64 = 0
    /// Access mode, status flags and, of the descriptor, O_CLOEXEC; as open(2) takes them.
    public var flags: UInt32 = 0
    /// Id of the mount in `/proc/PID/mountinfo`.
    public var mountID: Int32 = 0
    /// Inode number (Linux 5.14).
    public var inode: UInt64 = 0
    /// The rest of each `lock:` line: locks and leases held through this descriptor or by its process on its file.
    public var locks: [String] = []
    /// eventfd-count.
    public var eventCount: UInt64?
    /// eventfd-semaphore (Linux 6.5).
    public var isEventSemaphore = false
    /// sigmask of a signalfd, bit 0 is signal 1.
    public var signalMask: UInt64?
    /// `tfd:` lines of an epoll instance, in their order.
    public var watches: [Watch] = []
    /// A timerfd.
    public var timer: Timer?

    /// What an epoll instance watches.
    public struct Watch: Hashable, Sendable {
        /// The number of the descriptor when the watch was added.
        public var descriptor: Int32
        /// EPOLL* bits that are armed.
        public var events: UInt32
        /// The user's word.
        public var data: UInt64

        /// Makes a watch.
        public init(descriptor: Int32, events: UInt32, data: UInt64) {
            self.descriptor = descriptor
            self.events = events
            self.data = data
        }
    }

    /// A timerfd.
    public struct Timer: Hashable, Sendable {
        /// Clock id.
        public var clock: Int32 = 0
        /// Expirations that were not read.
        public var ticks: UInt64 = 0
        /// Flags of timerfd_settime(2).
        public var setFlags: UInt32 = 0
        /// Nanoseconds to the next expiration, 0 when disarmed.
        public var value: Int64 = 0
        /// Nanoseconds between expirations.
        public var interval: Int64 = 0
    }

    /// Reads the information of descriptor `number` of a process.
    public static func read(_ pid: Int32, descriptor number: Int32) throws(TraceError) -> FdInfo {
        let path = "/proc/\(pid)/fdinfo/\(number)"
        return try FdInfo(ProcFile.read(path), file: path)
    }

    /// Parses the text; lines of unknown kinds are passed over.
    public init(_ text: [UInt8], file: String) throws(TraceError) {
        for line in text.lines where try !apply(line, file: file) {
            throw .malformed(file, line)
        }
    }

    /// Whether the line was understood or is of an unknown kind.
    private mutating func apply(_ line: ArraySlice<UInt8>, file: String) throws(TraceError) -> Bool {
        guard let colon = line.firstIndex(of: .colon) else { return true }
        var cursor = ByteCursor(line[(colon + 1)...])
        cursor.skipBlanks()
        switch line[..<colon].text {
        case "pos":
            guard let value = cursor.signedBits() else { return false }
            position = Int64(bitPattern: value)
        case "flags":
            guard let value = cursor.number(radix: 8), let bits = UInt32(exactly: value) else { return false }
            flags = bits
        case "mnt_id":
            guard let value = cursor.signedBits() else { return false }
            mountID = Int32(truncatingIfNeeded: value)
        case "ino":
            guard let value = cursor.number() else { return false }
            inode = value
        case "lock": locks.append(cursor.rest.text)
        case "eventfd-count":
            guard let value = cursor.hexadecimal() else { return false }
            eventCount = value
        case "eventfd-semaphore": isEventSemaphore = cursor.number() == 1
        case "sigmask":
            guard let value = cursor.hexadecimal() else { return false }
            signalMask = value
        case "tfd": return addWatch(&cursor)
        default: return applyTimer(line[..<colon], &cursor)
        }
        return true
    }

    /// A line as `tfd:        5 events:       19 data:        500000005  pos:0 ino:... sdev:...`.
    private mutating func addWatch(_ cursor: inout ByteCursor) -> Bool {
        guard let number = cursor.number(), let descriptor = Int32(exactly: number) else { return false }
        cursor.skipBlanks()
        guard cursor.skip("events:") else { return false }
        cursor.skipBlanks()
        guard let events = cursor.hexadecimal() else { return false }
        cursor.skipBlanks()
        guard cursor.skip("data:") else { return false }
        cursor.skipBlanks()
        guard let data = cursor.hexadecimal() else { return false }
        watches.append(Watch(descriptor: descriptor, events: UInt32(truncatingIfNeeded: events), data: data))
        return true
    }

    /// `clockid: 1`, `ticks: 0`, `settime flags: 01`, `it_value: (0, 49406829)`, `it_interval: (1, 0)`.
    private mutating func applyTimer(_ key: ArraySlice<UInt8>, _ cursor: inout ByteCursor) -> Bool {
        var timer = timer ?? Timer()
        switch key.text {
        case "clockid":
            guard let value = cursor.number() else { return false }
            timer.clock = Int32(truncatingIfNeeded: value)
        case "ticks":
            guard let value = cursor.number() else { return false }
            timer.ticks = value
        case "settime flags":
            guard let value = cursor.number(radix: 8) else { return false }
            timer.setFlags = UInt32(truncatingIfNeeded: value)
        case "it_value":
            guard let value = Self.time(&cursor) else { return false }
            timer.value = value
        case "it_interval":
            guard let value = Self.time(&cursor) else { return false }
            timer.interval = value
        default: return true
        }
        self.timer = timer
        return true
    }

    /// `(seconds, nanoseconds)` in nanoseconds.
    private static func time(_ cursor: inout ByteCursor) -> Int64? {
        guard cursor.skip(UInt8(ascii: "(")), let seconds = cursor.number(), cursor.skip(UInt8(ascii: ",")) else {
            return nil
        }
        cursor.skipBlanks()
        guard let nanoseconds = cursor.number() else { return nil }
        let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? Int64.max : Int64(clamping: whole &+ nanoseconds)
    }
}
