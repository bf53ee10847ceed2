// SPDX-License-Identifier: Apache-2.0

/// One timer of `/proc/PID/timers`, proc_pid_timers(5).
public struct PosixTimerEntry: Hashable, Sendable {
    /// Kernel's id of the timer.
    public var id: Int32 = 0
    /// The signal.
    public var signal: Int32 = 0
    /// sigev_value.
    public var value: UInt64 = 0
    /// SIGEV_SIGNAL 0, SIGEV_NONE 1, SIGEV_THREAD 2, with SIGEV_THREAD_ID 4 added when a thread is signalled.
    public var notify: Int32 = 0
    /// The process, or the thread with SIGEV_THREAD_ID, as this program sees it.
    public var target: Int32 = 0
    /// Clock id.
    public var clock: Int32 = 0

    /// Reads the timers of a process.
    public static func read(_ pid: Int32) throws(TraceError) -> [PosixTimerEntry] {
        let path = "/proc/\(pid)/timers"
        return try parse(ProcFile.read(path), file: path)
    }

    /// Parses the text.
    public static func parse(_ text: [UInt8], file: String) throws(TraceError) -> [PosixTimerEntry] {
        var entries: [PosixTimerEntry] = []
        for line in text.lines {
            guard let colon = line.firstIndex(of: .colon) else { throw .malformed(file, line) }
            var cursor = ByteCursor(line[(colon + 1)...])
            cursor.skipBlanks()
            let key = line[..<colon].text
            if key == "ID" { entries.append(PosixTimerEntry()) }
            guard !entries.isEmpty, entries[entries.count - 1].apply(key, &cursor) else { throw .malformed(file, line) }
        }
        return entries
    }

    /// `ID: 0`, `signal: 10/00007ffe5a1e1c54`, `notify: signal/pid.4711`, `ClockID: 1`.
    private mutating func apply(_ key: String, _ cursor: inout ByteCursor) -> Bool {
        switch key {
        case "ID":
            guard let number = cursor.number() else { return false }
            id = Int32(truncatingIfNeeded: number)
        case "signal":
            guard let number = cursor.number(), cursor.skip(UInt8(ascii: "/")), let word = cursor.hexadecimal() else {
                return false
            }
            signal = Int32(truncatingIfNeeded: number)
            value = word
        case "notify": return applyNotify(&cursor)
        case "ClockID":
            guard let bits = cursor.signedBits() else { return false }
            clock = Int32(truncatingIfNeeded: bits)
        default: break
        }
        return true
    }

    private mutating func applyNotify(_ cursor: inout ByteCursor) -> Bool {
        if cursor.skip("signal/") {
            notify = 0
        } else if cursor.skip("none/") {
            notify = 1
        } else if cursor.skip("thread/") {
            notify = 2
        } else {
            return false
        }
        let isThread = cursor.skip("tid.")
        guard isThread || cursor.skip("pid.") else { return false }
        if isThread { notify += 4 }
        guard let number = cursor.number() else { return false }
        target = Int32(truncatingIfNeeded: number)
        return true
    }
}
