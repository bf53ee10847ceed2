// SPDX-License-Identifier: Apache-2.0
internal import Checkpoint
internal import LinuxSystem
internal import PageWire
internal import Paging
internal import ProcessImage
internal import Reporting

/// The process to move, as the session's drivers need it; so that they can be tested without one.
protocol SourceProcess: AnyObject {
    /// For messages.
    var name: String { get }

    /// Readable when the process has ended; nil when that cannot be watched.
    ///
    /// Valid once ``examine()`` has returned.
    var endDescriptor: Int32? { get }

    /// Looks at the running process; `refused` names everything that cannot be carried.
    func examine() throws(SessionFailure)

    /// Begins to note which pages of the running process are written; nil when nothing here can.
    func track() throws(SessionFailure) -> (any SourceTracker)?

    /// Stops all threads and describes the process; when that fails the process runs on.
    ///
    /// - Parameter sharedMemoryAhead: the contents of all shared objects go ahead; none of them is lazy.
    func freeze(sharedMemoryAhead: Bool) throws(SessionFailure) -> any FrozenSource
}

extension SourceProcess {
    /// Not watched.
    var endDescriptor: Int32? { nil }

    /// Not tracked.
    func track() throws(SessionFailure) -> (any SourceTracker)? { nil }
}

/// A frozen process.
///
/// Belongs to the thread that froze it and ends exactly once by one of the last four methods.
protocol FrozenSource: AnyObject {
    /// CLOCK_MONOTONIC when the first thread was told to stop, in nanoseconds.
    var freezeBegan: UInt64 { get }
    /// The encoded process description.
    var encodedDescription: [UInt8] { get throws(SessionFailure) }
    /// Makes readers on any thread.
    var memory: any SourceMemory { get }
    /// Guard pages in lazy memory: all but those that ``SourceMemoryReader/survey(existing:guards:)`` finds besides.
    var guards: [PageRun] { get }
    /// Whether devices may have written to the memory past the tracker.
    var usesDirectIO: Bool { get }

    /// The next pages to send ahead, in order; nil behind the last.
    func nextEagerPages() throws(SessionFailure) -> EagerPages?
    /// Makes it impossible that the process runs again by itself.
    func commitGranted() throws(SessionFailure)

    /// Lets the process go on as if nothing had happened.
    func thaw() throws(SessionFailure)
    /// Ends the process.
    func kill() throws(SessionFailure)
    /// Leaves the process stopped, state T.
    func leaveStopped() throws(SessionFailure)
    /// Lets the process go on beside its copy.
    func continueAsClone() throws(SessionFailure)
}

extension FrozenSource {
    /// Not.
    var usesDirectIO: Bool { false }
}

/// The memory of a process.
protocol SourceMemory: Sendable {
    /// A reader for the calling thread.
    func makeReader() throws(SessionFailure) -> any SourceMemoryReader
}

/// Reads pages on one thread.
protocol SourceMemoryReader: AnyObject {
    /// Reads up to 64 pages; page `n` lands at `offset + n * 4096`.
    ///
    /// - Returns: one bit a page, bit 0 the first: set when the page holds data, clear when it reads as zeros.
    func read(
        _ address: VirtualAddress,
        count: Int,
        into buffer: TransferBuffer,
        at offset: Int
    ) throws(SessionFailure) -> UInt64

    /// Walks all lazy memory: passes every run of pages that exist, and every run of guard pages.
    func survey(existing: (AddressRange) -> Void, guards: (AddressRange) -> Void) throws(SessionFailure)

    /// What up to 64 pages are: one bit a page, bit 0 the first.
    func look(at address: VirtualAddress, count: Int) throws(SessionFailure) -> (existing: UInt64, guards: UInt64)
}
