// SPDX-License-Identifier: Apache-2.0
internal import Checkpoint
internal import DirtyTracking
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import Reporting

/// A running process of this machine, by way of Checkpoint.
final class CheckpointedProcess: SourceProcess {
    private let pid: Int32
    private let freezeTimeout: Duration
    private let plan: TrackerPlan
    private var strategy = TrackerStrategy.none
    private var examination: Examination?
    private var descriptor: ProcessDescriptor?
    /// As long as somebody tracks.
    private weak var tracker: ProcessTracker?

    init(pid: Int32, freezeTimeout: Duration, plan: TrackerPlan = .untracked) {
        self.pid = pid
        self.freezeTimeout = freezeTimeout
        self.plan = plan
    }

    var name: String { "process \(pid)" }

    var endDescriptor: Int32? { descriptor?.descriptor }

    func examine() throws(SessionFailure) {
        strategy = try plan.strategy(support: .probe())
        let pid = pid
        let examination = try told { () throws(CheckpointError) in try Examination.examine(pid: pid) }
        // Before anybody comes; otherwise it is said when pages would be sent.
        if examination.usesDirectIO, plan.isDemand { try plan.giveUpForDirectIO(of: pid) }
        self.examination = examination
        do throws(SystemCallError) {
            descriptor = try ProcessDescriptor(pid: pid)
        } catch {
            throw SessionFailure(.notFound, "process \(pid) has ended")
        }
    }

    func track() throws(SessionFailure) -> (any SourceTracker)? {
        guard var examination else { preconditionFailure("CheckpointedProcess: tracked before it was examined") }
        guard strategy != .none else { return nil }
        guard !examination.usesDirectIO else {
            try plan.giveUpForDirectIO(of: pid)
            return nil
        }
        let pid = pid
        let source = try told { () throws(CheckpointError) in try PageSource(running: pid) }
        let tracker: ProcessTracker
        do throws(TrackingError) {
            tracker = try ProcessTracker(of: source, strategy, timeout: freezeTimeout)
        } catch {
            try plan.giveUp(error)
            return nil
        }
        examination.isTracked(by: tracker.registrations)
        self.examination = examination
        self.tracker = tracker
        return tracker
    }

    func freeze(sharedMemoryAhead: Bool) throws(SessionFailure) -> any FrozenSource {
        guard var examination else { preconditionFailure("CheckpointedProcess: frozen before it was examined") }
        // An earlier destination's, which has gone.
        if tracker == nil { examination.isTracked(by: nil) }
        let timeout = freezeTimeout
        let frozen = try told { () throws(CheckpointError) in
            try FrozenProcess.freeze(examination, timeout: timeout, sharedMemoryAhead: sharedMemoryAhead)
        }
        return FrozenByCheckpoint(frozen)
    }
}

private final class FrozenByCheckpoint: FrozenSource {
    private let process: FrozenProcess

    init(_ process: FrozenProcess) {
        self.process = process
    }

    var freezeBegan: UInt64 { process.freezeBegan }

    var encodedDescription: [UInt8] {
        get throws(SessionFailure) {
            do throws(ProcessImageError) {
                return try ArchiveEncoder.encode(process.description)
            } catch {
                throw SessionFailure(.bug, "the description cannot be encoded: \(error)")
            }
        }
    }

    var memory: any SourceMemory { CheckpointedMemory(source: process.pageSource) }

    var guards: [PageRun] { process.guards.map { PageRun($0) } }

    var usesDirectIO: Bool { process.usesDirectIO }

    func nextEagerPages() throws(SessionFailure) -> EagerPages? {
        try told { () throws(CheckpointError) in try process.nextEagerPages() }
    }

    func commitGranted() throws(SessionFailure) {
        try told { () throws(CheckpointError) in try process.commitGranted() }
    }

    func thaw() throws(SessionFailure) {
        try told { () throws(CheckpointError) in try process.thaw() }
    }

    func kill() throws(SessionFailure) {
        try told { () throws(CheckpointError) in try process.kill() }
    }

    func leaveStopped() throws(SessionFailure) {
        try told { () throws(CheckpointError) in try process.leaveStopped() }
    }

    func continueAsClone() throws(SessionFailure) {
        try told { () throws(CheckpointError) in try process.continueAsClone() }
    }
}

struct CheckpointedMemory: SourceMemory {
    let source: PageSource

    func makeReader() throws(SessionFailure) -> any SourceMemoryReader {
        CheckpointedReader(source.makeReader())
    }
}

private final class CheckpointedReader: SourceMemoryReader {
    private let reader: PageReader

    init(_ reader: PageReader) {
        self.reader = reader
    }

    func read(
        _ address: VirtualAddress,
        count: Int,
        into buffer: TransferBuffer,
        at offset: Int
    ) throws(SessionFailure) -> UInt64 {
        do throws(CheckpointError) {
            return try reader.read(address, count: count, into: buffer, at: offset)
        } catch {
            throw SessionFailure(error)
        }
    }

    func survey(existing: (AddressRange) -> Void, guards: (AddressRange) -> Void) throws(SessionFailure) {
        do throws(CheckpointError) {
            try reader.survey(existing: existing, guards: guards)
        } catch {
            throw SessionFailure(error)
        }
    }

    func look(at address: VirtualAddress, count: Int) throws(SessionFailure) -> (existing: UInt64, guards: UInt64) {
        do throws(CheckpointError) {
            return try reader.look(at: address, count: count)
        } catch {
            throw SessionFailure(error)
        }
    }
}

/// Runs a call of Checkpoint and tells its failure in the words of a session.
private func told<Result>(_ body: () throws(CheckpointError) -> Result) throws(SessionFailure) -> Result {
    do throws(CheckpointError) {
        return try body()
    } catch {
        throw SessionFailure(error)
    }
}

extension SessionFailure {
    /// A failure of Checkpoint.
    init(_ error: CheckpointError) {
        let message = error.cause.map { "\(error.message): \($0)" } ?? error.message
        self.init(
            ExitCode(rawValue: error.code.rawValue) ?? .bug,
            message,
            details: error.findings.map(\.description)
        )
    }
}
