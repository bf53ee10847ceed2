// SPDX-License-Identifier: Apache-2.0

/// `/proc/PID/status` or `/proc/PID/task/TID/status`, proc_pid_status(5).
public struct ProcessStatus: Sendable {
    /// Every line: name and value without the blanks around it.
    public let lines: [String: String]

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
        var lines: [String: String] = [:]
        for line in text.lines {
            guard let colon = line.firstIndex(of: .colon) else { throw .malformed(file, line) }
            let value = line[(colon + 1)...].drop { $0 == .tab || $0 == .space }
            lines[line[..<colon].text] = String(value.text.reversed().drop { $0 == " " || $0 == "\t" }.reversed())
        }
        self.lines = lines
        let fields = Fields(lines: lines, file: file)
        state = try fields.text("State").first ?? "?"
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
        threadCount = try fields.number("Threads")
        umask = lines["Umask"].flatMap { UInt32($0, radix: 8) }
        inheritableCapabilities = try fields.mask("CapInh")
        permittedCapabilities = try fields.mask("CapPrm")
        effectiveCapabilities = try fields.mask("CapEff")
        boundingCapabilities = try fields.mask("CapBnd")
        ambientCapabilities = try fields.mask("CapAmb")
        pendingSignals = try fields.mask("SigPnd")
        sharedPendingSignals = try fields.mask("ShdPnd")
        blockedSignals = try fields.mask("SigBlk")
        ignoredSignals = try fields.mask("SigIgn")
        caughtSignals = try fields.mask("SigCgt")
        noNewPrivileges = try fields.number("NoNewPrivs") as Int != 0
        seccompMode = lines["Seccomp"].flatMap { Int($0) } ?? 0
        seccompFilterCount = lines["Seccomp_filters"].flatMap { Int($0) }
        threadFeatures = (lines["x86_Thread_features"] ?? "").split(separator: " ").map(String.init)
    }

    /// Typed access to the lines; a missing or odd one is an error that quotes it.
    private struct Fields {
        let lines: [String: String]
        let file: String

        func text(_ key: String) throws(TraceError) -> String {
            guard let value = lines[key] else {
                throw TraceError(.malformed, "\"\(file)\" has no line \"\(key)\"")
            }
            return value
        }

        func number<Number: FixedWidthInteger>(_ key: String) throws(TraceError) -> Number {
            let value = try text(key)
            guard let number = Number(value) else { throw .malformed(file, "\(key):\t\(value)".utf8) }
            return number
        }

        func numbers<Number: FixedWidthInteger>(_ key: String, count: Int? = nil) throws(TraceError) -> [Number] {
            let value = try text(key)
            let words = value.split { $0 == " " || $0 == "\t" }
            let numbers = words.compactMap { Number($0) }
            guard numbers.count == words.count, count.map({ $0 == numbers.count }) ?? true else {
                throw .malformed(file, "\(key):\t\(value)".utf8)
            }
            return numbers
        }

        func mask(_ key: String) throws(TraceError) -> UInt64 {
            let value = try text(key)
            guard let mask = UInt64(value, radix: 16) else { throw .malformed(file, "\(key):\t\(value)".utf8) }
            return mask
        }
    }
}
