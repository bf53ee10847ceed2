// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import LinuxSystem

/// What is tracked, and how.
struct TrackSubject: Sendable {
    var pid: Int32
    /// Name of the program.
    var name: String
    var strategy: TrackerStrategy
    var interval: Duration
    var bandwidth: Bandwidth
    /// Pages with data at the beginning.
    var present: UInt64
    /// Mappings with data at the beginning.
    var mappings: Int

    var estimate: PauseEstimate { PauseEstimate(bandwidth: bandwidth.bytesPerSecond) }
}

/// Why there are no more rounds.
enum TrackEnding: Equatable, Sendable {
    /// As many as were asked for.
    case rounds
    /// The user has had enough.
    case signal(Signal)
    /// Nobody reads the results any more.
    case output
    /// The process has ended, or executed another program; the words for it.
    case process(String)
    /// It cannot go on, and why.
    case failure(String)

    /// The word in JSON.
    var reason: String {
        switch self {
        case .rounds: "rounds"
        case .signal: "signal"
        case .output: "output"
        case .process: "process"
        case .failure: "failure"
        }
    }
}

/// Writes what is found in one of the two forms.
protocol TrackRenderer {
    /// What stands at the beginning.
    func beginning(_ subject: TrackSubject) -> String
    /// One round.
    func round(_ measurement: WriteMeasurement, of subject: TrackSubject) -> String
    /// What stands at the end.
    func end(_ ending: TrackEnding, _ summary: WriteSummary, of subject: TrackSubject) -> String
}
