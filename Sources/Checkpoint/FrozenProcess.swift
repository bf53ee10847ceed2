// SPDX-License-Identifier: Apache-2.0
public import ProcessImage

/// A process whose threads are all stopped and that has been described.
///
/// It belongs to the thread that froze it (ptrace(2) knows only that thread as the tracer) and ends exactly once, by ``thaw()``,
/// ``kill()``, ``leaveStopped()`` or ``continueAsClone()``. A value that is dropped without an end thaws the process, or leaves it
/// stopped once the grant is committed.
public final class FrozenProcess {
    /// Everything but the contents of the lazy pages.
    public let description: ProcessDescription
    /// Reads the pages, on any thread.
    public let pageSource: PageSource
    /// CLOCK_MONOTONIC, in nanoseconds, when the first thread was told to stop.
    public let freezeBegan: UInt64

    private init(_ description: ProcessDescription, _ pageSource: PageSource, freezeBegan: UInt64) {
        self.description = description
        self.pageSource = pageSource
        self.freezeBegan = freezeBegan
    }

    /// Looks at a process again, stops all its threads and describes it.
    ///
    /// - Parameters:
    ///   - examination: what was seen before; when the process has something new that cannot be carried it is refused and runs on.
    ///   - timeout: how long stopping all threads may take; the process is let go when it passes.
    public static func freeze(
        _ examination: Examination,
        timeout: Duration
    ) throws(CheckpointError) -> FrozenProcess {
        throw CheckpointError(.unavailable, "not there yet")
    }

    /// The next pages that the destination must have before the process runs there; nil behind the last.
    ///
    /// Each at most ``EagerPages/maximumBytes``. Asked for once through, in order.
    public func nextEagerPages() throws(CheckpointError) -> EagerPages? {
        nil
    }

    /// Makes it impossible that the process runs again by itself: to be called before the grant is sent.
    ///
    /// A SIGSTOP is queued, which the kernel takes before any thread returns to user mode; so the process stays stopped even if
    /// this program dies.
    public func commitGranted() throws(CheckpointError) {}

    /// Lets the process go on as if nothing had happened.
    public func thaw() throws(CheckpointError) {}

    /// Kills the process and waits until it is gone.
    public func kill() throws(CheckpointError) {}

    /// Lets go of the process and leaves it stopped (state T), for `kill -CONT`.
    public func leaveStopped() throws(CheckpointError) {}

    /// Lets the process go on although its copy runs: the two are clones from now on.
    public func continueAsClone() throws(CheckpointError) {}
}
