// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import Logging
internal import PageWire
internal import Paging
internal import Reporting

/// Why pre-copy did not come to its end.
enum PreCopyFailure: Error {
    /// The destination has gone; another one may come.
    case lost(ChannelError)
    /// The process cannot be moved.
    case failed(SessionFailure)
}

/// What the thread of a bulk connection is asked to do before the freeze.
struct PreCopyJob: Sendable {
    /// Nil when the kernel has no tracker: then nothing is sent.
    let tracker: (any SourceTracker)?
    let request: PreCopyRequest
    /// Told of every round.
    let status: StatusSink
    /// Where the result goes; something always comes.
    let done: Handover<Result<PreCopied, PreCopyFailure>>
}

/// What pre-copy has sent.
struct PreCopied: Sendable {
    /// Pages whose bytes at the destination were right at the last round.
    var pages = PageSet()
    var rounds: [PreCopyRound] = []

    /// Those of the pages that exist under the freeze that the destination has already, unchanged.
    ///
    /// - Parameters:
    ///   - tracker: of the process, whose threads are all stopped; nil when it was not tracked.
    ///   - existing: what the final scan has found.
    func unchanged(
        by tracker: (any SourceTracker)?,
        among existing: PageSet
    ) throws(SessionFailure) -> PageSet {
        guard let tracker else { return PageSet() }
        let last = try tracker.finalRound()
        var unchanged = pages
        unchanged.subtract(last.dropped)
        unchanged.subtract(last.written)
        var gone = unchanged
        gone.subtract(existing)
        unchanged.subtract(gone)
        return unchanged
    }
}

/// Sends pages while the process runs: in each round those that were written since the one before.
struct PreCopyService {
    /// How long the destination may keep this side from sending one frame.
    private static let patience = Duration.seconds(30)

    private let session: ServedSession
    private let job: PreCopyJob
    private let buffer: TransferBuffer

    init(_ session: ServedSession, _ job: PreCopyJob) throws(SystemCallError) {
        self.session = session
        self.job = job
        let content = Int(PageProtocol.maximumPages) * PageSize.baseBytes
        buffer = try TransferBuffer(capacity: FrameChannel.contentOffset + content)
    }

    /// Does all rounds; what goes wrong with the connection is thrown, and told as any other failure.
    func run(_ channel: FrameChannel) throws {
        let sent: PreCopied
        do {
            sent = try sendRounds(channel)
        } catch let error as SessionFailure {
            return job.done.put(.failure(.failed(error)))
        } catch {
            job.done.put(.failure(.lost(error as? ChannelError ?? .closed)))
            throw error
        }
        // Before the destination hears of it and asks for the description.
        job.done.put(.success(sent))
        let kind = job.tracker?.kind ?? .none
        try channel.send(.preCopied(rounds: UInt32(sent.rounds.count), tracker: kind), until: .after(Self.patience))
    }

    private func sendRounds(_ channel: FrameChannel) throws -> PreCopied {
        var sent = PreCopied()
        guard let tracker = job.tracker else { return sent }
        let reader = try tracker.memory.makeReader()
        var rule = PreCopyRule(job.request)
        while true {
            let round = try tracker.round()
            sent.pages.subtract(round.dropped)
            // Whatever is not sent now is stale from now on.
            sent.pages.subtract(round.written)
            guard rule.goesOn(with: round.written.count) else { return sent }
            let began = MonotonicTime.now
            let pages = try send(round.written, &sent.pages, reader, channel)
            let duration = began.elapsed
            rule.sent(pages, in: duration)
            let number = UInt32(sent.rounds.count + 1)
            let nanoseconds = MonotonicTime.now.nanoseconds - began.nanoseconds
            let done = PreCopyRound(number: number, pages: pages, duration: nanoseconds)
            try channel.send(.preCopyRound(done), until: .after(Self.patience))
            sent.rounds.append(done)
            FaultPoint.hit(.sourcePreCopyRound)
            job.status.report(.preCopy(round: Int(number), pages: pages))
        }
    }

    /// Sends what holds data; returns how many pages that were.
    private func send(
        _ written: PageSet,
        _ kept: inout PageSet,
        _ reader: any SourceMemoryReader,
        _ channel: FrameChannel
    ) throws -> UInt64 {
        var count: UInt64 = 0
        var position: UInt64 = 0
        while let run = written.nextRun(from: position, limit: UInt64(PageProtocol.maximumPages)) {
            position = run.upperBound
            guard kept.count + UInt64(run.count) <= job.request.maximumPages else { return count }
            let mask = try reader.read(
                VirtualAddress(run.lowerBound << 12),
                count: run.count,
                into: buffer,
                at: FrameChannel.contentOffset
            )
            count += try send(run, mask, &kept, channel)
        }
        return count
    }

    /// Sends the pages of one read that hold data: zeros and pages that went away meanwhile are left for later.
    private func send(
        _ run: Range<UInt64>,
        _ mask: UInt64,
        _ kept: inout PageSet,
        _ channel: FrameChannel
    ) throws(ChannelError) -> UInt64 {
        let start = FrameChannel.contentOffset
        var digests = RunDigests()
        var index = 0
        var count: UInt64 = 0
        while index < run.count {
            guard mask & (1 << UInt64(index)) != 0 else {
                index += 1
                continue
            }
            var end = index + 1
            while end < run.count, mask & (1 << UInt64(end)) != 0 { end += 1 }
            let first = run.lowerBound + UInt64(index)
            let frame = PageFrame(
                kind: .pageRun,
                address: VirtualAddress(pageNumber: first),
                count: UInt32(end - index),
                digest: digests.make(index..<end, from: run.lowerBound, mask, buffer, at: start)
            )
            let offset = start + index * PageSize.baseBytes
            try channel.send(frame, from: buffer, at: offset, until: .after(Self.patience))
            kept.insert(first..<first + UInt64(end - index))
            count += UInt64(end - index)
            index = end
        }
        return count
    }
}
