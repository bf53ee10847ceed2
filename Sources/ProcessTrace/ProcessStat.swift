// SPDX-License-Identifier: Apache-2.0

/// `/proc/PID/stat` or `/proc/PID/task/TID/stat`, proc_pid_stat(5).
public struct ProcessStat: Sendable {
    /// Name of the thread, without the parentheses around it.
    public let name: [UInt8]
    /// R, S, D, T, t, Z, X.
    public let state: Character
    /// Fields 4 and on.
    private let fields: [UInt64]

    /// Field `number` of the man page, counted from 1; 0 for one that this kernel does not have.
    public func field(_ number: Int) -> UInt64 {
        fields.indices.contains(number - 4) ? fields[number - 4] : 0
    }

    /// Parent's id.
    public var parent: Int32 { Int32(truncatingIfNeeded: field(4)) }
    /// Process group.
    public var processGroup: Int32 { Int32(truncatingIfNeeded: field(5)) }
    /// Session.
    public var session: Int32 { Int32(truncatingIfNeeded: field(6)) }
    /// Controlling terminal as a device number, 0 for none.
    public var terminal: Int32 { Int32(truncatingIfNeeded: field(7)) }
    /// Foreground process group of the terminal, -1 for none.
    public var terminalProcessGroup: Int32 { Int32(truncatingIfNeeded: field(8)) }
    /// Nice value.
    public var nice: Int32 { Int32(truncatingIfNeeded: field(19)) }
    /// Time of the start in clock ticks since boot; with the id it names a process for ever.
    public var startTime: UInt64 { field(22) }
    /// mm->start_code.
    public var startCode: UInt64 { field(26) }
    /// mm->end_code.
    public var endCode: UInt64 { field(27) }
    /// mm->start_stack.
    public var startStack: UInt64 { field(28) }
    /// CPU that the thread last ran on.
    public var processor: Int { Int(truncatingIfNeeded: field(39)) }
    /// mm->start_data.
    public var startData: UInt64 { field(45) }
    /// mm->end_data.
    public var endData: UInt64 { field(46) }
    /// mm->start_brk.
    public var startBrk: UInt64 { field(47) }
    /// mm->arg_start.
    public var argStart: UInt64 { field(48) }
    /// mm->arg_end.
    public var argEnd: UInt64 { field(49) }
    /// mm->env_start.
    public var envStart: UInt64 { field(50) }
    /// mm->env_end.
    public var envEnd: UInt64 { field(51) }

    /// Reads the stat of a process or of one of its threads.
    ///
    /// The kernel shows zeros in fields 26-28 and 45-51 to callers that may not trace the process.
    public static func read(_ pid: Int32, thread tid: Int32? = nil) throws(TraceError) -> ProcessStat {
        let path = tid.map { "/proc/\(pid)/task/\($0)/stat" } ?? "/proc/\(pid)/stat"
        return try ProcessStat(ProcFile.read(path), file: path)
    }

    /// Parses the text of stat; the name may hold blanks and parentheses.
    public init(_ text: [UInt8], file: String) throws(TraceError) {
        guard let open = text.firstIndex(of: UInt8(ascii: "(")), let close = text.lastIndex(of: UInt8(ascii: ")")),
            open < close
        else { throw .malformed(file, text) }
        name = Array(text[(open + 1)..<close])
        let words = text[(close + 1)...].split { $0 == .space || $0 == .newline }
        guard let letter = words.first?.text.first, words.count >= 2 else { throw .malformed(file, text) }
        state = letter
        var fields: [UInt64] = []
        for word in words.dropFirst() {
            var cursor = ByteCursor(word)
            guard let value = cursor.signedBits(), cursor.isAtEnd else { throw .malformed(file, text) }
            fields.append(value)
        }
        self.fields = fields
    }
}
