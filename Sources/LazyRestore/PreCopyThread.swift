// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import PageWire
internal import Paging
internal import Reporting
internal import Synchronization

/// Takes the pages that the source sends while its process still runs, and keeps them outside of the copy.
struct PreCopyThread {
    /// What pre-copy brought.
    struct Result: Sendable {
        let staged: PageStore
        let tracker: TrackerKind
    }

    private let staged: PageStore
    private let shared: RestoreShared
    private let patience: Duration
    private let onRound: @Sendable (PreCopyRound) -> Void

    /// - Parameters:
    ///   - staged: where to keep the pages.
    ///   - shared: of the restore.
    ///   - patience: how long the source may be silent.
    ///   - onRound: told of each round that has arrived.
    init(
        into staged: PageStore,
        shared: RestoreShared,
        patience: Duration,
        onRound: @escaping @Sendable (PreCopyRound) -> Void
    ) {
        self.staged = staged
        self.shared = shared
        self.patience = patience
        self.onRound = onRound
    }

    /// Receives until the source says that pre-copy is over.
    func run(_ channel: FrameChannel) throws(SessionFailure) -> Result {
        do {
            while true {
                switch try channel.receive(until: .after(patience)) {
                case .nothing: continue
                case .pages(let frame): try take(frame, channel)
                case .message(.preCopyRound(let round)):
                    onRound(round)
                    FaultPoint.hit(.destinationPreCopyRound)
                case .message(.preCopied(_, let tracker)): return Result(staged: staged, tracker: tracker)
                case .message(let message): throw ChannelError.unexpected(message.kind)
                }
            }
        } catch {
            throw SessionFailure(losing: "bulk", error)
        }
    }

    private func take(_ frame: PageFrame, _ channel: FrameChannel) throws {
        guard frame.kind == .pageRun else { throw ChannelError.unexpected(frame.kind) }
        shared.bytesReceived.add(UInt64(frame.contentByteCount), ordering: .relaxed)
        let first = frame.address.rawValue >> 12
        let pages = first..<first + UInt64(frame.count)
        guard try staged.store(pages, from: channel.buffer, at: FrameChannel.contentOffset) else {
            throw SessionFailure(.peer, "the source sent more than the \(staged.limit) pages that were asked for")
        }
    }
}
