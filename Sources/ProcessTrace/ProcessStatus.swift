// SPDX-License-Identifier: Apache-2.0

/// `/proc/PID/status` or `/proc/PID/task/TID/status`, proc_pid_status(5).
public struct ProcessStatus: Sendable {
    /// The letter of State: R, S, D, T, t, Z, X.
    public let state: Character
    /// Id of the thread group leader.
    public let tgid: Int32
    /// Id of the thread.
    public let pid: Int32
    /// Id of the parent.
    public let parent: Int32
    /// Id of the tracer, 0 for none.
    public let tracer: Int32
    /// Real, effective, saved and file system user.
    public let users: [UInt32]
    /// Real, effective, saved and file system group.
    public let groupIDs: [UInt32]
    /// Supplementary groups.
    public let groups: [UInt32]
    /// Ids of the thread in each pid namespace, outermost (ours) first.
    public let namespacePIDs: [Int32]
    /// Ids of the thread group in each pid namespace.
    public let namespaceTGIDs: [Int32]
    /// Ids of the process group in each pid namespace.
    public let namespaceProcessGroups: [Int32]
    /// Ids of the session in each pid namespace.
    public let namespaceSessions: [Int32]
    /// Number of threads.
    public let threadCount: Int
    /// File creation mask, nil in kernels before 4.7.
    public let umask: UInt32?
    /// CapInh.
    public let inheritableCapabilities: UInt64
    /// CapPrm.
    public let permittedCapabilities: UInt64
    /// CapEff.
    public let effectiveCapabilities: UInt64
    /// CapBnd.
    public let boundingCapabilities: UInt64
    /// CapAmb.
    public let ambientCapabilities: UInt64
    /// Signals pending for this thread, bit 0 is signal 1.
    public let pendingSignals: UInt64
    /// Signals pending for the process.
    public let sharedPendingSignals: UInt64
    /// Signals that the thread blocks.
    public let blockedSignals: UInt64
    /// Signals that the process ignores.
    public let ignoredSignals: UInt64
    /// Signals that the process handles.
    public let caughtSignals: UInt64
    /// PR_SET_NO_NEW_PRIVS.
    public let noNewPrivileges: Bool
    /// 0 off, 1 strict, 2 filters.
    public let seccompMode: Int
    /// Number of seccomp filters, nil in kernels before 5.9.
    public let seccompFilterCount: Int?
    /// Memory locked by mlock(2), in kB.
    public let lockedKilobytes: UInt64
    /// How often the thread has gone to sleep by itself; nil where the kernel does not count.
    public let voluntarySwitches: UInt64?
    /// Words of x86_Thread_features (`shstk`, `wrss`); empty where the kernel has none.
    public let threadFeatures: [String]

    /// Whether the thread has a shadow stack.
    public var hasShadowStack: Bool {
        threadFeatures.contains("shstk")
    }

    /// Reads the status of a process or of one of its threads.
    public static func read(_ pid: Int32, thread tid: Int32? = nil) throws(TraceError) -> ProcessStatus {
        let path = tid.map { "/proc/\(pid)/task/\($0)/status" } ?? "/proc/\(pid)/status"
        return try ProcessStatus(ProcFile.read(path), file: path)
    }

    /// Parses the text of status.
    public init(_ text: [UInt8], file: String) throws(TraceError) {
        var fields = try Fields(text, file: file)
        state = try fields.value("State").first.map { Character(Unicode.Scalar($0)) } ?? "?"
        umask = fields.optional("Umask").flatMap { fields.number($0, radix: 8) }
        tgid = try fields.number("Tgid")
        pid = try fields.number("Pid")
        parent = try fields.number("PPid")
        tracer = try fields.number("TracerPid")
        users = try fields.numbers("Uid", count: 4)
        groupIDs = try fields.numbers("Gid", count: 4)
        groups = try fields.numbers("Groups")
        namespaceTGIDs = try fields.numbers("NStgid")
        namespacePIDs = try fields.numbers("NSpid")
        namespaceProcessGroups = try fields.numbers("NSpgid")
        namespaceSessions = try fields.numbers("NSsid")
        lockedKilobytes = fields.optional("VmLck").flatMap { fields.leadingNumber($0) } ?? 0
        threadCount = try fields.number("Threads")
        pendingSignals = try fields.mask("SigPnd")
        sharedPendingSignals = try fields.mask("ShdPnd")
        blockedSignals = try fields.mask("SigBlk")
        ignoredSignals = try fields.mask("SigIgn")
        caughtSignals = try fields.mask("SigCgt")
        inheritableCapabilities = try fields.mask("CapInh")
        permittedCapabilities = try fields.mask("CapPrm")
        effectiveCapabilities = try fields.mask("CapEff")
        boundingCapabilities = try fields.mask("CapBnd")
        ambientCapabilities = try fields.mask("CapAmb")
        noNewPrivileges = try fields.number("NoNewPrivs") as Int != 0
        seccompMode = fields.optional("Seccomp").flatMap { fields.number($0) } ?? 0
        seccompFilterCount = fields.optional("Seccomp_filters").flatMap { fields.number($0) }
        threadFeatures = (fields.optional("x86_Thread_features") ?? []).split(separator: .space).map(\.text)
        voluntarySwitches = fields.optional("voluntary_ctxt_switches").flatMap { fields.number($0) }
    }

    /// Typed access to the lines; a missing or odd one is an error that quotes it.
    ///
    /// A frozen process with many threads waits while their status is read, so nothing becomes a `String` on the way. Lines are
    /// looked for from the last one found on, as they are asked for nearly in the order of the file.
    private struct Fields {
        private struct Line {
            let key: Range<Int>
            let value: Range<Int>
        }

        private let text: [UInt8]
        private let file: String
        private var lines: [Line] = []
        private var next = 0

        init(_ text: [UInt8], file: String) throws(TraceError) {
            self.text = text
            self.file = file
            lines.reserveCapacity(64)
            var start = 0
            while start < text.count {
                let end = text[start...].firstIndex(of: .newline) ?? text.count
                if end > start { lines.append(try Self.line(text, start..<end, file)) }
                start = end + 1
            }
        }

        private static func line(_ text: [UInt8], _ range: Range<Int>, _ file: String) throws(TraceError) -> Line {
            guard let colon = text[range].firstIndex(of: .colon) else { throw .malformed(file, text[range]) }
            var value = colon + 1..<range.upperBound
            while let first = value.first, isBlank(text[first]) { value = first + 1..<value.upperBound }
            while let last = value.last, isBlank(text[last]) { value = value.lowerBound..<last }
            return Line(key: range.lowerBound..<colon, value: value)
        }

        private static func isBlank(_ byte: UInt8) -> Bool {
            byte == .space || byte == .tab
        }

        mutating func optional(_ key: StaticString) -> ArraySlice<UInt8>? {
            let length = key.utf8CodeUnitCount
            for turn in 0..<lines.count {
                let index = (next + turn) % lines.count
                let line = lines[index]
                guard line.key.count == length else { continue }
                var cursor = ByteCursor(text[line.key])
                guard cursor.skip(key) else { continue }
                next = index + 1
                return text[line.value]
            }
            return nil
        }

        mutating func value(_ key: StaticString) throws(TraceError) -> ArraySlice<UInt8> {
            guard let value = optional(key) else {
                throw TraceError(.malformed, "\"\(file)\" has no line \"\(key)\"")
            }
            return value
        }

        /// A number that takes up all of the value.
        func number<Number: FixedWidthInteger>(_ value: ArraySlice<UInt8>, radix: UInt64 = 10) -> Number? {
            var cursor = ByteCursor(value)
            let isNegative = Number.isSigned && cursor.skip(UInt8(ascii: "-"))
            guard let magnitude = cursor.number(radix: radix), cursor.isAtEnd else { return nil }
            guard isNegative else { return Number(exactly: magnitude) }
            return Int64(exactly: magnitude).flatMap { Number(exactly: -$0) }
        }

        /// The number at the beginning of `16 kB`.
        func leadingNumber(_ value: ArraySlice<UInt8>) -> UInt64? {
            var cursor = ByteCursor(value)
            return cursor.number()
        }

        mutating func number<Number: FixedWidthInteger>(_ key: StaticString) throws(TraceError) -> Number {
            let value = try value(key)
            guard let number: Number = number(value) else { throw odd(key, value) }
            return number
        }

        mutating func numbers<Number: FixedWidthInteger>(
            _ key: StaticString,
            count: Int? = nil
        ) throws(TraceError) -> [Number] {
            let value = try value(key)
            var numbers: [Number] = []
            for word in value.split(whereSeparator: Self.isBlank) {
                guard let number: Number = number(word) else { throw odd(key, value) }
                numbers.append(number)
            }
            guard count.map({ $0 == numbers.count }) ?? true else { throw odd(key, value) }
            return numbers
        }

        mutating func mask(_ key: StaticString) throws(TraceError) -> UInt64 {
            let value = try value(key)
            guard let mask: UInt64 = number(value, radix: 16) else { throw odd(key, value) }
            return mask
        }

        private func odd(_ key: StaticString, _ value: ArraySlice<UInt8>) -> TraceError {
            .malformed(file, Array("\(key):\t".utf8) + value)
        }
    }
}
