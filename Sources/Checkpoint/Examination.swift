// SPDX-License-Identifier: Apache-2.0

/// What was seen of a process that can be carried while it went on running.
///
/// Nothing of the process is stopped or altered. ``FrozenProcess/freeze(_:timeout:)`` looks again at everything that can change.
public struct Examination: Sendable {
    /// The process, as this program sees it.
    public let pid: Int32
    /// `/proc/PID/cmdline` with spaces, for messages.
    public let commandLine: String

    /// Looks at a running process.
    ///
    /// - Throws: ``CheckpointError``; with all findings in one go when the process has something that cannot be carried.
    public static func examine(pid: Int32) throws(CheckpointError) -> Examination {
        throw CheckpointError(.unavailable, "not there yet")
    }
}
