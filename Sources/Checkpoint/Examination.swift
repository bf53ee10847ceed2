// SPDX-License-Identifier: Apache-2.0
internal import Paging
internal import ProcessTrace

/// What was seen of a process that can be carried while it went on running.
///
/// Nothing of the process is stopped or altered. ``FrozenProcess/freeze(_:timeout:)`` looks again at everything that can change.
public struct Examination: Sendable {
    /// The process, as this program sees it.
    public let pid: Int32
    /// `/proc/PID/cmdline` with spaces, for messages.
    public let commandLine: String
    /// Start of the process in clock ticks since boot, which tells it from a later one of the same number.
    let startTime: UInt64
    /// What need not be found out again under the freeze.
    var cache: ExaminationCache
    /// Where guard pages were; empty before ``refresh()``.
    private(set) var guards = GuardSearch()

    /// Looks at a running process.
    ///
    /// - Throws: ``CheckpointError``; with all findings in one go when the process has something that cannot be carried.
    public static func examine(pid: Int32) throws(CheckpointError) -> Examination {
        var cache = ExaminationCache()
        let survey = try survey(pid, &cache)
        let text = try CheckpointError.translating(pid, "examine") { try ProcFile.read("/proc/\(pid)/cmdline") }
        return Examination(
            pid: pid,
            commandLine: commandLine(text),
            startTime: survey.stat.startTime,
            cache: cache
        )
    }

    /// Whether the process has a file open whose contents the device writes straight into its memory (O_DIRECT): writes that no
    /// protection of pages shows.
    public var usesDirectIO: Bool { cache.usesDirectIO }

    /// The process is write-protected by this program from now on; a mapping that is registered by another userfaultfd is refused
    /// as before.
    ///
    /// - Parameter tracker: what it answers; nil for one that registers nothing, and when tracking has ended.
    public mutating func isTracked(by tracker: TrackerRegistrations?) {
        cache.tracker = tracker
    }

    /// Looks at the process again, for what is remembered to be fresh.
    mutating func refresh() throws(CheckpointError) {
        let survey = try Self.survey(pid, &cache)
        guard survey.stat.startTime == startTime else {
            throw CheckpointError(.noSuchProcess, "process \(pid) has ended, another one has its number now")
        }
        let lazy = survey.mappings.filter(\.isLazy).map(\.entry.range)
        let pid = pid
        // Last, for what is installed behind it has to be told the destination later.
        guards = try CheckpointError.translating(pid, "examine") { try GuardSearch(walking: lazy, of: pid) }
    }

    private static func survey(_ pid: Int32, _ cache: inout ExaminationCache) throws(CheckpointError) -> Survey {
        guard pid > 0 else { throw CheckpointError(.noSuchProcess, "there is no process \(pid)") }
        let survey: Survey
        do {
            survey = try Survey.take(pid, .running, cache: &cache)
        } catch {
            throw CheckpointError.of(error, pid: pid, doing: "examine")
        }
        guard survey.findings.isEmpty else { throw CheckpointError(refusing: pid, survey.findings) }
        cache.usesDirectIO = survey.usesDirectIO
        survey.fingerprint(&cache)
        return survey
    }

    static func commandLine(_ text: [UInt8]) -> String {
        let words = text.split(separator: 0, omittingEmptySubsequences: false)
        return words.map { String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
            .trimmingSpaces
    }
}

extension String {
    /// Without blanks at its end.
    fileprivate var trimmingSpaces: String {
        String(reversed().drop { $0 == " " }.reversed())
    }
}
