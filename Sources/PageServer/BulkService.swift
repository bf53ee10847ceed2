// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import Logging
internal import PageWire
internal import Paging
internal import Reporting
internal import TLSSession

/// Streams what nobody has asked for: which pages exist, on the first connection of a session, then the pages, on all of them.
struct BulkService {
    /// What may wait in the kernel to be sent.
    ///
    /// Little, so that pages that are asked for do not queue behind it on the network.
    private static let unsentBytes: Int32 = 256 << 10

    private let session: ServedSession
    /// Whether this connection carries what is sent once.
    private let isFirst: Bool
    /// Where the thread runs.
    private let placement: ThreadPlacement?
    private let logger: Logger

    init(_ session: ServedSession, isFirst: Bool = true, _ placement: ThreadPlacement? = nil, logger: Logger) {
        self.session = session
        self.isFirst = isFirst
        self.placement = placement
        self.logger = logger
    }

    /// Streams until everything is sent, then keeps the connection until it ends or the session stops.
    func run(_ channel: FrameChannel) {
        defer { session.ended(channel) }
        do {
            channel.connection.afterRecord = { [session, placement] in
                placement?.follow(session.pace)
                session.ledger.makeWay()
            }
            try SocketTuning.limitUnsent(channel.connection.descriptor, bytes: Self.unsentBytes)
            try preCopyUntilItMayBegin(channel)
            try ThreadPrivileges.reader.limitCurrentThread()
            guard let memory = session.frozenMemory else { return }
            if isFirst { try sendMaps(channel) }
            let reader = try memory.makeReader()
            try sendPages(channel, reader)
            if isFirst { try finish(channel, reader) }
            let last = try channel.receive(until: .never)
            if case .message(let message) = last { throw ChannelError.unexpected(message.kind) }
        } catch ChannelError.stopped {
            return
        } catch {
            logger.info("A bulk connection ended", metadata: ["reason": "\(error)"])
        }
    }

    private func sendMaps(_ channel: FrameChannel) throws(ChannelError) {
        if session.ledger.owesMap {
            try sendLateGuards(channel)
            try sendMap(session.ledger.map, channel) { .pageMap(runs: $0, isLast: $1) }
        }
        let preCopied = session.ledger.preCopyMapToSend
        if !preCopied.isEmpty { try sendMap(preCopied, channel) { .preCopyMap(runs: $0, isLast: $1) } }
        FaultPoint.hit(.sourceMapSent)
    }

    private func finish(_ channel: FrameChannel, _ reader: any SourceMemoryReader) throws {
        try Self.countRest(session.ledger, reader, until: channel.connection.interruption ?? session.stop)
        try channel.send(.drained(pages: session.ledger.existingCount ?? 0), until: .never)
        FaultPoint.hit(.sourceDrained)
    }

    /// Does what is asked for before the freeze, and waits for the start and for the map.
    ///
    /// A connection that ends meanwhile is noticed when it is written to.
    private func preCopyUntilItMayBegin(_ channel: FrameChannel) throws {
        let jobs = isFirst ? [session.preCopyJobs.descriptor] : []
        while try waitForOne(of: [session.streamMayBegin.descriptor] + jobs, channel) == 1 {
            if let job = session.preCopyJobs.take() {
                try PreCopyService(session, job).run(channel)
            }
        }
        _ = try waitForOne(of: [session.ledger.readyDescriptor], channel)
        guard session.ledger.existingCount != nil else {
            throw SessionFailure(.systemCall, "the pages of the process could not be found out")
        }
    }

    /// Waits until one of the descriptors is readable; returns which.
    private func waitForOne(of descriptors: [Int32], _ channel: FrameChannel) throws -> Int {
        let poller = try Poller(capacity: descriptors.count + 1)
        for (index, descriptor) in descriptors.enumerated() { try poller.add(descriptor, token: UInt64(index)) }
        let stopToken = UInt64(descriptors.count)
        if let stop = channel.connection.interruption { try poller.add(stop.descriptor, token: stopToken) }
        let count = try poller.wait()
        for index in 0..<count where poller[index].token == stopToken { throw ChannelError.stopped }
        return Int(poller[0].token)
    }

    /// Guards that the grant does not name go before the map: when that has come, what it does not name reads zeros.
    private func sendLateGuards(_ channel: FrameChannel) throws(ChannelError) {
        var guards = session.ledger.lateGuards[...]
        while !guards.isEmpty {
            let piece = Array(guards.prefix(PageProtocol.maximumMapRuns))
            try channel.send(.guardMap(runs: piece), until: .never)
            guards = guards.dropFirst(piece.count)
        }
    }

    private func sendMap(
        _ map: PageSet,
        _ channel: FrameChannel,
        _ message: ([PageRun], Bool) -> Message
    ) throws(ChannelError) {
        var runs: [PageRun] = []
        var position: UInt64 = 0
        while let run = map.nextRun(from: position) {
            position = run.upperBound
            if runs.count == PageProtocol.maximumMapRuns {
                try channel.send(message(runs, false), until: .never)
                runs.removeAll(keepingCapacity: true)
            }
            runs.append(PageRun(address: VirtualAddress(run.lowerBound << 12), count: UInt64(run.count)))
        }
        try channel.send(message(runs, true), until: .never)
    }

    private func sendPages(_ channel: FrameChannel, _ reader: any SourceMemoryReader) throws {
        let limit = UInt64(PageProtocol.maximumPages)
        let buffer = try TransferBuffer(capacity: FrameChannel.contentOffset + Int(limit) * PageSize.baseBytes)
        var digests = RunDigests()
        while try !isStopped(channel), let (run, isCounted) = session.ledger.claimRun(limit: limit) {
            let mask = try reader.read(
                VirtualAddress(run.lowerBound << 12),
                count: run.count,
                into: buffer,
                at: FrameChannel.contentOffset
            )
            let digest = digests.make(0..<run.count, from: run.lowerBound, mask, buffer, at: FrameChannel.contentOffset)
            if isCounted {
                session.ledger.streamedAgain()
            } else {
                session.ledger.streamed(run, digest, zero: UInt64(run.count - mask.nonzeroBitCount))
            }
            try send(run, mask, digests, buffer, channel)
            FaultPoint.hit(.sourcePagesStreamed)
        }
    }

    /// Whether other connections have taken the place of this one, which a stream that never has to wait would not see.
    private func isStopped(_ channel: FrameChannel) throws -> Bool {
        if try channel.connection.interruption?.wait(until: .immediate) == true { throw ChannelError.stopped }
        return false
    }

    /// Reads what the destination has and nobody has counted, for the digest: so COMPLETE compares it with the frozen process.
    static func countRest(_ ledger: PageLedger, _ reader: any SourceMemoryReader, until stop: EventDescriptor) throws {
        let limit = UInt64(PageProtocol.maximumPages)
        let buffer = try TransferBuffer(capacity: Int(limit) * PageSize.baseBytes)
        var digests = RunDigests()
        while let run = ledger.claimUncounted(limit: limit) {
            if try stop.wait(until: .immediate) { throw ChannelError.stopped }
            let mask = try reader.read(VirtualAddress(run.lowerBound << 12), count: run.count, into: buffer, at: 0)
            ledger.wasThere(run, digests.make(0..<run.count, from: run.lowerBound, mask, buffer, at: 0))
        }
    }

    /// Pages of data and pages of zeros in turn, each as long as possible.
    private func send(
        _ run: Range<UInt64>,
        _ mask: UInt64,
        _ digests: RunDigests,
        _ buffer: TransferBuffer,
        _ channel: FrameChannel
    ) throws(ChannelError) {
        var index = 0
        while index < run.count {
            let isData = mask & (1 << UInt64(index)) != 0
            var end = index + 1
            while end < run.count, (mask & (1 << UInt64(end)) != 0) == isData { end += 1 }
            let frame = PageFrame(
                kind: isData ? .pageRun : .zeroRun,
                address: VirtualAddress((run.lowerBound + UInt64(index)) << 12),
                count: UInt32(end - index),
                digest: digests.sum(of: index..<end)
            )
            let offset = FrameChannel.contentOffset + index * PageSize.baseBytes
            try channel.send(frame, from: buffer, at: offset, until: .never)
            index = end
        }
    }
}
