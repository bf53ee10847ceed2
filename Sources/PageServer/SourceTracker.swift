// SPDX-License-Identifier: Apache-2.0
internal import PageWire
internal import Paging
internal import Reporting

/// Knows which pages of the running process were written, as the session's drivers need it.
///
/// One thread uses it at a time.
protocol SourceTracker: AnyObject, Sendable {
    /// How.
    var kind: TrackerKind { get }
    /// The memory of the running process.
    var memory: any SourceMemory { get }

    /// What was written since the last round; the first time every page with data.
    ///
    /// Writes after this call show in the next round, so what is read of these pages now may be sent.
    func round() throws(SessionFailure) -> SourceRound
    /// What was written since the last round, with all threads stopped.
    func finalRound() throws(SessionFailure) -> SourceRound
    /// Leaves no trace in the process; again and again does no harm.
    func end()
}

/// What has happened to pages since the last round.
struct SourceRound: Sendable {
    /// Hold data that was written.
    var written: PageSet
    /// Are no more what they were, whatever was sent of them.
    ///
    /// To be looked at before ``written``.
    var dropped: PageSet
}
