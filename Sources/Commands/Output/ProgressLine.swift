// SPDX-License-Identifier: Apache-2.0
internal import LazyRestore
internal import LinuxSystem

/// The line at the bottom of a terminal that changes while pages arrive; log entries scroll above it.
final class ProgressLine: Sendable {
    private struct State {
        var estimate = ProgressEstimate()
        var shown = ""
    }

    private let state = Lock(State())
    private let write: @Sendable (String) -> Void

    /// A line that is drawn by writing to `write`.
    init(write: @escaping @Sendable (String) -> Void = { StandardStream.error.write($0) }) {
        self.write = write
    }

    /// Draws how far the restore is; the last report takes the line away.
    func show(_ progress: RestoreProgress) {
        state.withLock { state in
            let text = state.estimate.text(for: progress)
            state.shown = progress.isLast ? "" : text
            write(Self.clear + state.shown)
        }
    }

    /// Writes whole lines above the line.
    func writeAbove(_ lines: String) {
        state.withLock { state in
            write(state.shown.isEmpty ? lines : Self.clear + lines + state.shown)
        }
    }

    /// Carriage return, erase to the end of the line.
    private static let clear = "\r\u{1B}[K"
}

/// Turns counters into speed and time left.
struct ProgressEstimate {
    private var last: RestoreProgress?
    private var bytesPerSecond: Double?
    private var faultsPerSecond = 0.0
    /// Weight of the newest interval; about five intervals back count.
    private static let weight = 0.3

    /// One line without line feed, at most 79 columns for any process that fits a machine.
    mutating func text(for progress: RestoreProgress) -> String {
        measure(progress)
        guard progress.totalPages > 0 else { return "running; waiting for the list of pages" }
        let resident = min(progress.residentPages, progress.totalPages)
        // Rounded down, so that 100 % is said only when nothing is owed.
        let permille = Double(resident) / Double(progress.totalPages) * 1000
        var parts = [
            "resident \(Self.decimal(permille.rounded(.down) / 10)) %",
            "\(Self.decimal((bytesPerSecond ?? 0) / 1_048_576)) MiB/s",
            "\(Int(faultsPerSecond.rounded())) faults/s",
        ]
        if let seconds = secondsLeft(progress) { parts.append("\(seconds) s left") }
        return parts.joined(separator: " · ")
    }

    private mutating func measure(_ progress: RestoreProgress) {
        defer { last = progress }
        let before = last ?? RestoreProgress()
        let seconds = (progress.elapsed - before.elapsed) / .seconds(1)
        guard seconds > 0.001, progress.bytesReceived >= before.bytesReceived, progress.faults >= before.faults else {
            return
        }
        let bytes = Double(progress.bytesReceived - before.bytesReceived) / seconds
        let faults = Double(progress.faults - before.faults) / seconds
        guard let smoothed = bytesPerSecond else {
            (bytesPerSecond, faultsPerSecond) = (bytes, faults)
            return
        }
        bytesPerSecond = smoothed + (bytes - smoothed) * Self.weight
        faultsPerSecond += (faults - faultsPerSecond) * Self.weight
    }

    private func secondsLeft(_ progress: RestoreProgress) -> Int? {
        guard progress.residentPages < progress.totalPages, let bytesPerSecond, bytesPerSecond >= 1 else { return nil }
        // Zero pages cost no bytes, so this is what it takes at most.
        let seconds = Double(progress.totalPages - progress.residentPages) * 4096 / bytesPerSecond
        return seconds < 360_000 ? Int(seconds.rounded(.up)) : nil
    }

    private static func decimal(_ number: Double) -> String {
        let tenths = Int((number * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }
}
