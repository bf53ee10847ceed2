// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LazyPages
internal import LinuxSystem
internal import PageWire
internal import Paging
internal import Reporting
internal import Synchronization
internal import TLSSession

/// Takes the page map and everything that nobody has asked for from a bulk connection and installs it.
struct BulkThread {
    private let memory: LazyMemory
    private let shared: RestoreShared
    /// Which connections of the session its own belongs to.
    private let generation: UInt64

    init(memory: LazyMemory, shared: RestoreShared, generation: UInt64 = 1) {
        self.memory = memory
        self.shared = shared
        self.generation = generation
    }

    /// Starts the thread; one that ends at once has closed its connection.
    ///
    /// - Parameter pid: of the process, for the name of the thread.
    func start(_ connection: Handover<FrameChannel>, for pid: Int32) throws(SystemCallError) {
        shared.streams.begin()
        do throws(SystemCallError) {
            try shared.start("bulk-\(pid)", urgency: .background) { [self] in
                defer { shared.streams.end() }
                if let channel = connection.take() { run(channel) }
            }
        } catch {
            shared.streams.end()
            throw error
        }
    }

    /// Installs until the session stops or the connection ends.
    private func run(_ channel: FrameChannel) {
        defer { shared.ended(channel) }
        let placement = shared.place(.stream)
        channel.connection.afterRecord = { [memory, shared, placement] in
            shared.streamRecords.add(1, ordering: .relaxed)
            placement?.follow(shared.pace)
            memory.makeWay()
        }
        do {
            while true {
                switch try channel.receive(until: .never) {
                case .nothing: continue
                case .pages(let frame): try take(frame, channel)
                case .message(.pageMap(let runs, let isLast)):
                    try memory.mapArrived(runs, isLast: isLast)
                    FaultPoint.hit(.destinationMapArrived)
                case .message(.guardMap(let runs)): try memory.guardsArrived(runs)
                case .message(.preCopyMap(let runs, let isLast)):
                    try memory.preCopyMapArrived(runs, isLast: isLast)
                    // From now on what was pre-copied is installed besides.
                    if isLast { try StagedThread.start(memory, shared) }
                case .message(.drained(let pages)): try checkDrained(pages)
                case .message(let message): throw ChannelError.unexpected(message.kind)
                }
            }
        } catch ChannelError.stopped {
            return
        } catch {
            shared.lost(Loss(of: "bulk", error), of: generation)
        }
    }

    private func take(_ frame: PageFrame, _ channel: FrameChannel) throws {
        let content: Arrival.Content
        switch frame.kind {
        case .pageRun: content = .data
        case .zeroRun: content = .zeros
        default:
            throw ChannelError.unexpected(frame.kind)
        }
        shared.bytesReceived.add(UInt64(frame.contentByteCount), ordering: .relaxed)
        let arrival = Arrival(address: frame.address, count: frame.count, content: content)
        // Here and not where pages are installed, since what was pre-copied is installed besides.
        memory.with(.stream) { $0.streamArrived() }
        try memory.deliver(arrival, frame.digest, from: channel.buffer, at: FrameChannel.contentOffset, .stream)
        FaultPoint.hit(.destinationPagesStreamed)
    }

    /// The source says that it has sent everything on one connection or the other; what is under way on the other still comes.
    private func checkDrained(_ pages: UInt64) throws(SessionFailure) {
        let mapped = memory.with(.stream) { $0.books.isMapComplete ? $0.books.mappedPages : nil }
        guard mapped == pages else {
            throw SessionFailure(.peer, "the source sent \(pages) pages where its map named \(mapped ?? 0)")
        }
    }
}
