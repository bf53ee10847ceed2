// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem

/// A thread that sleeps, seen from outside while it does.
public struct SleepingThread: Hashable, Sendable {
    /// Id of the thread.
    public let tid: Int32
    /// The kernel function in which it waits (`/proc/PID/task/TID/wchan`), `0` when it runs.
    public let function: String
    /// How often it has gone to sleep by itself.
    public let voluntarySwitches: UInt64
    /// When it was last put on its CPU, by the clock of the scheduler in nanoseconds; it went to sleep soon after.
    public let lastRun: UInt64
    /// The CPU whose clock that was.
    public let processor: Int

    /// Looks at a thread.
    ///
    /// - Throws: ``TraceError`` with code `gone` when the thread has ended.
    public static func read(_ pid: Int32, thread tid: Int32) throws(TraceError) -> SleepingThread {
        let folder = "/proc/\(pid)/task/\(tid)"
        let function = try ProcFile.read("\(folder)/wchan").text
        let schedule = try Schedule(ProcFile.read("\(folder)/sched"), file: "\(folder)/sched")
        let stat = try ProcessStat.read(pid, thread: tid)
        return SleepingThread(
            tid: tid,
            function: function,
            voluntarySwitches: schedule.voluntarySwitches,
            lastRun: schedule.lastRun,
            processor: stat.processor
        )
    }
}

/// The two lines of `/proc/PID/task/TID/sched` that are used.
struct Schedule: Hashable {
    /// se.exec_start in nanoseconds.
    var lastRun: UInt64 = 0
    /// nr_voluntary_switches.
    var voluntarySwitches: UInt64 = 0

    init(_ text: [UInt8], file: String) throws(TraceError) {
        var found = 0
        for line in text.lines {
            let isStart = line.starts(with: "se.exec_start".utf8)
            guard isStart || line.starts(with: "nr_voluntary_switches".utf8) else { continue }
            guard let colon = line.firstIndex(of: .colon) else { throw .malformed(file, line) }
            var cursor = ByteCursor(line[(colon + 1)...])
            cursor.skipBlanks()
            guard let whole = cursor.number() else { throw .malformed(file, line) }
            if isStart {
                // Milliseconds with six decimals.
                guard cursor.skip(UInt8(ascii: ".")), let fraction = cursor.number(), fraction < 1_000_000 else {
                    throw .malformed(file, line)
                }
                lastRun = whole &* 1_000_000 &+ fraction
            } else {
                voluntarySwitches = whole
            }
            found += 1
        }
        guard found == 2 else { throw TraceError(.malformed, "\"\(file)\" lacks se.exec_start or its switches") }
    }
}

/// Turns times of a CPU's scheduler clock into CLOCK_MONOTONIC.
///
/// The clocks of two CPUs differ by the time that the hypervisor took from them, so each is compared by itself. The thread that
/// asks moves to that CPU, sleeps for a moment and compares the time at which it woke by both.
public struct SleepClock: Sendable {
    private var offsets: [Int: Int64] = [:]

    /// Knows no clock yet.
    public init() {}

    /// CLOCK_MONOTONIC, in nanoseconds, at which `thread` was put on its CPU the last time.
    public mutating func monotonic(_ thread: SleepingThread) throws(TraceError) -> Int64 {
        if let offset = offsets[thread.processor] { return Int64(clamping: thread.lastRun) &+ offset }
        let offset = try Self.measure(thread.processor)
        offsets[thread.processor] = offset
        return Int64(clamping: thread.lastRun) &+ offset
    }

    /// How far the clocks may move between two looks at them, in nanoseconds, and how often that is tried.
    private static let narrow: Int64 = 500_000
    private static let attempts = 20

    /// A thread that loses its CPU between the looks has been put on it anew when the second one comes: times would be too early by as
    /// long as it had to wait, and calls would end before their time-outs.
    private static func measure(_ processor: Int) throws(TraceError) -> Int64 {
        do {
            let before = try CPUAffinity.pin(to: processor)
            defer { try? before.apply() }
            let path = "/proc/self/task/\(clinux_gettid())/sched"
            var best = (width: Int64.max, offset: Int64(0))
            for _ in 0..<attempts {
                var time = timespec(tv_sec: 0, tv_nsec: 1)
                // SAFETY: the kernel reads one timespec.
                unsafe nanosleep(&time, nil)
                let now = Int64(clamping: MonotonicTime.now.nanoseconds)
                let text = try ProcFile.read(path)
                let width = Int64(clamping: MonotonicTime.now.nanoseconds) &- now
                let own = try Schedule(text, file: path)
                if width < best.width { best = (width, now &- Int64(clamping: own.lastRun)) }
                if width <= narrow { break }
            }
            return best.offset
        } catch let error as TraceError {
            throw error
        } catch {
            let cause = error as? SystemCallError
            throw TraceError(.systemCall, "Cannot read the clock of CPU \(processor)", cause: cause)
        }
    }
}
