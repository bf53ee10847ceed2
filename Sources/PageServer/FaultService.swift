// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import Logging
internal import PageWire
internal import Paging
internal import Reporting

/// Answers urgent requests for pages on one connection: one request after the other, nothing in front of them.
struct FaultService {
    /// So many answers wait for the next one, when that has been asked for already.
    ///
    /// The destination is woken for four pages then, not for each. The first answer to requests that came together never waits, since
    /// somebody waits for that page, and maybe for no other.
    private static let heldBackAtMost = 3

    private let session: ServedSession
    /// Where the thread runs.
    private let placement: ThreadPlacement?
    private let logger: Logger

    init(_ session: ServedSession, _ placement: ThreadPlacement? = nil, logger: Logger) {
        self.session = session
        self.placement = placement
        self.logger = logger
    }

    /// Serves until the connection ends or the session stops.
    func run(_ channel: FrameChannel) {
        defer { session.ended(channel) }
        do {
            let desk = try Desk(session, channel)
            var spin = session.spin
            var heldBack = 0
            while true {
                let isFirst = !channel.nextFrameIsHere
                switch try channel.receive(until: .never, spinning: &spin) {
                case .pages(let request):
                    let isLast = !channel.nextFrameIsHere
                    session.pace.noted(isAlone: isFirst && isLast, at: MonotonicTime.now.nanoseconds)
                    placement?.follow(session.pace)
                    let waits = !isFirst && !isLast && heldBack < Self.heldBackAtMost
                    heldBack = waits ? heldBack + 1 : 0
                    channel.moreFollows = waits
                    try desk.answer(request)
                case .message(let message): throw ChannelError.unexpected(message.kind)
                case .nothing: continue
                }
            }
        } catch ChannelError.stopped {
            return
        } catch {
            logger.info("A fault connection ended", metadata: ["reason": "\(error)"])
        }
    }

    /// What one thread needs to answer.
    private final class Desk {
        private let session: ServedSession
        private let channel: FrameChannel
        private let buffer: TransferBuffer
        private var digests = RunDigests()
        private var reader: (any SourceMemoryReader)?
        /// Pages of the request that are on their way by the stream and that no thread waits for: they are not sent again.
        private var sent: UInt64 = 0

        init(_ session: ServedSession, _ channel: FrameChannel) throws(SystemCallError) {
            self.session = session
            self.channel = channel
            let content = Int(PageProtocol.maximumPages) * PageSize.baseBytes
            buffer = try TransferBuffer(capacity: FrameChannel.contentOffset + content)
        }

        /// One request, at least one answer; the pages in between are of the kinds data, zeros, never there, and guards.
        func answer(_ request: PageFrame) throws {
            let first = request.address.pageNumber
            let pages = first..<first + UInt64(request.count)
            sent = request.remaining > 0 ? session.ledger.onTheirWay(pages) & Self.expected(request) : 0
            let mask: UInt64
            do throws(SessionFailure) {
                mask = try read(request)
            } catch {
                return try refuse(request, error)
            }
            let claim = session.ledger.claimOnDemand(pages, isAwaited: request.remaining < request.count)
            defer { session.ledger.answerEnded() }
            var index: UInt32 = 0
            while index < request.count {
                let kind = try kind(of: index, mask, request)
                var end = index + 1
                while end < request.count, try self.kind(of: end, mask, request) == kind { end += 1 }
                try send(kind, index..<end, mask, of: request)
                FaultPoint.hit(.sourceFaultAnswered)
                // The thread at the other end runs already: counting costs it nothing.
                if kind.statesContents { count(index..<end, of: claim, from: first, isZero: kind == .zeroPages) }
                index = end
            }
        }

        /// The pages of a request that no thread waits for, one bit a page.
        private static func expected(_ request: PageFrame) -> UInt64 {
            let awaited = UInt64(request.count - request.remaining)
            return awaited >= 64 ? 0 : ~((1 << awaited) - 1)
        }

        /// Reads what has to be sent; one bit a page that holds data.
        private func read(_ request: PageFrame) throws(SessionFailure) -> UInt64 {
            let reader = try ownReader()
            var mask: UInt64 = 0
            var page: UInt64 = 0
            while page < UInt64(request.count) {
                let skipped = UInt64((~(sent >> page)).trailingZeroBitCount)
                page += skipped
                guard page < UInt64(request.count) else { break }
                let count = min(UInt64((sent >> page).trailingZeroBitCount), UInt64(request.count) - page)
                let offset = FrameChannel.contentOffset + Int(page) * PageSize.baseBytes
                let address = VirtualAddress(pageNumber: request.address.pageNumber + page)
                mask |= try reader.read(address, count: Int(count), into: buffer, at: offset) << page
                page += count
            }
            return mask
        }

        private func ownReader() throws(SessionFailure) -> any SourceMemoryReader {
            if let reader { return reader }
            guard let memory = session.frozenMemory else {
                throw SessionFailure(.peer, "pages were asked for before the process was frozen")
            }
            let made = try memory.makeReader()
            reader = made
            return made
        }

        private func kind(of index: UInt32, _ mask: UInt64, _ request: PageFrame) throws(SessionFailure) -> FrameKind {
            guard sent & (1 << UInt64(index)) == 0 else { return .sentPages }
            let page = request.address.pageNumber + UInt64(index)
            let exists = session.ledger.exists(page)
            guard mask & (1 << UInt64(index)) == 0 else {
                // A page of data that the map does not name went ahead as an eager one: the destination has it.
                return exists ?? !session.ledger.wentAhead(page) ? .pages : .absentPages
            }
            if exists == true { return .zeroPages }
            // The process is frozen: nobody needs to wait for the map to know what a page is.
            let seen = try ownReader().look(at: VirtualAddress(pageNumber: page), count: 1)
            if seen.existing != 0 { return .zeroPages }
            return seen.guards != 0 && session.ledger.isLate(guard: page) ? .guardPages : .absentPages
        }

        private func send(
            _ kind: FrameKind,
            _ pages: Range<UInt32>,
            _ mask: UInt64,
            of request: PageFrame
        ) throws(ChannelError) {
            let first = request.address.pageNumber
            let indices = Int(pages.lowerBound)..<Int(pages.upperBound)
            let frame = PageFrame(
                kind: kind,
                request: request.request,
                address: VirtualAddress(pageNumber: first + UInt64(pages.lowerBound)),
                count: UInt32(pages.count),
                remaining: request.count - pages.upperBound,
                digest: kind.statesContents
                    ? digests.make(indices, from: first, mask, buffer, at: FrameChannel.contentOffset) : PageDigest()
            )
            let offset = FrameChannel.contentOffset + indices.lowerBound * PageSize.baseBytes
            try channel.send(frame, from: buffer, at: offset, until: .never)
        }

        private func count(_ pages: Range<UInt32>, of claim: PageLedger.Claim, from first: UInt64, isZero: Bool) {
            for index in pages where claim.bits & (1 << UInt64(index)) != 0 {
                let digest = digests[Int(index)]
                session.ledger.counted(first + UInt64(index), of: claim, isZero: isZero, digest: digest)
            }
        }

        /// The process is gone, or cannot be read any more: the destination must not take silence for zeros.
        private func refuse(_ request: PageFrame, _ failure: SessionFailure) throws {
            let frame = PageFrame(
                kind: .failed,
                request: request.request,
                address: request.address,
                count: request.count,
                remaining: UInt32(failure.code.rawValue)
            )
            try channel.send(frame, from: buffer, until: .after(.seconds(5)))
            throw failure
        }
    }
}
