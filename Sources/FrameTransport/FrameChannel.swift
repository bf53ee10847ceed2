// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem
public import PageWire
internal import Paging
public import TLSSession

/// Frames of the page protocol over one TLS connection.
///
/// One thread uses it at a time.
///
/// The contents of pages are received into ``buffer`` page-aligned, from where the kernel can install them, and are sent from a
/// buffer into which they were read: between the kernel of the source and the kernel of the destination nothing copies a page but TLS.
public final class FrameChannel {
    /// Where the contents of pages begin in ``buffer``, and in every buffer that is sent from.
    public static let contentOffset = PageSize.baseBytes
    /// Where a frame of pages begins in a buffer.
    private static let frameOffset = contentOffset - PageFrame.byteCount

    /// What has come.
    public enum Received {
        /// Everything but pages.
        case message(Message)
        /// A frame of pages, whose digest has been compared; its contents are in ``FrameChannel/buffer`` until the next frame is received.
        case pages(PageFrame)
        /// A whole frame has not come yet.
        case nothing
    }

    /// What the connection is for.
    public let kind: ConnectionKind
    /// The connection below.
    public let connection: TLSConnection
    /// Holds the frame that was received last.
    public let buffer: TransferBuffer
    /// Bytes of frames, without those of TLS.
    public private(set) var bytesReceived: UInt64 = 0
    /// Bytes of frames, without those of TLS.
    public private(set) var bytesSent: UInt64 = 0

    private let peer: Side
    private let poller: Poller
    private var filled = 0
    private var header: FrameHeader?

    /// Frames on a connection whose handshake is done.
    ///
    /// - Parameters:
    ///   - connection: belongs to the channel from now on; its `interruption`, if it has one, ends every wait of the channel.
    ///   - kind: decides which frames may come, and how much memory the longest of them needs.
    ///   - side: which end this is.
    public init(_ connection: TLSConnection, kind: ConnectionKind, side: Side) throws(ChannelError) {
        self.connection = connection
        self.kind = kind
        peer = side.peer
        let longest =
            FrameKind.allCases.filter { $0.isLegal(on: kind, from: side.peer) }.map(\.payloadBounds.upperBound).max()
            ?? 0
        do throws(SystemCallError) {
            // Control frames are long and rare: their pages of memory are only touched when one comes.
            buffer = try TransferBuffer(capacity: Self.frameOffset + FrameHeader.byteCount + longest)
            poller = try Poller(capacity: 2)
            try poller.add(connection.descriptor, token: 0)
            if let interruption = connection.interruption { try poller.add(interruption.descriptor, token: 1) }
        } catch {
            throw .system(error)
        }
    }

    /// The next frame, as far as it has come; never waits.
    ///
    /// After ``Received/nothing`` wait until ``TLSConnection/descriptor`` is readable and ask again. Allocates nothing for frames
    /// of pages.
    public func receive() throws(ChannelError) -> Received {
        while true {
            let wanted = FrameHeader.byteCount + (header?.payloadLength ?? 0)
            guard try fill(upTo: wanted) else { return .nothing }
            if let header {
                let frame = try decode(header)
                bytesReceived += UInt64(wanted)
                filled = 0
                self.header = nil
                return frame
            }
            header = try decodeHeader()
        }
    }

    /// Waits for the next frame.
    ///
    /// - Parameter deadline: when to give up.
    /// - Returns: never ``Received/nothing``.
    public func receive(until deadline: Deadline) throws(ChannelError) -> Received {
        while true {
            let received = try receive()
            guard case .nothing = received else { return received }
            try sleep(until: deadline)
        }
    }

    /// Waits for the next frame, and looks for it again and again before it goes to sleep.
    ///
    /// - Parameters:
    ///   - deadline: when to give up.
    ///   - spin: says how long to look.
    /// - Returns: never ``Received/nothing``.
    public func receive(until deadline: Deadline, spinning spin: inout Spin) throws(ChannelError) -> Received {
        var waits = !hasBufferedBytes
        while true {
            if waits, try !looksAgain(&spin) { try sleep(until: deadline) }
            let received = try receive()
            guard case .nothing = received else { return received }
            // What is buffered is a part of a record.
            waits = true
        }
    }

    /// Whether ``receive()`` may find something that poll does not see.
    public var hasBufferedBytes: Bool { connection.hasBufferedBytes }

    /// Whether another frame has come that ``receive()`` finds, as long as the other side puts whole frames into its records.
    public var nextFrameIsHere: Bool { connection.nextReadFindsBytes }

    /// Whether what is sent from now on may wait for what is sent next, which must not take long.
    public var moreFollows: Bool {
        get { connection.moreFollows }
        set { connection.moreFollows = newValue }
    }

    /// Whether something came before it was time to sleep.
    private func looksAgain(_ spin: inout Spin) throws(ChannelError) -> Bool {
        spin.begin(at: .now)
        while spin.continues(at: .now) {
            if try wait(until: .immediate) { return true }
        }
        return false
    }

    private func sleep(until deadline: Deadline) throws(ChannelError) {
        guard try wait(until: deadline) else { throw .timedOut }
    }

    /// Whether there is something to read before the deadline.
    private func wait(until deadline: Deadline) throws(ChannelError) -> Bool {
        let count: Int
        do throws(SystemCallError) {
            count = try poller.wait(until: deadline)
        } catch {
            throw .system(error)
        }
        for index in 0..<count where poller[index].token == 1 { throw .stopped }
        return count > 0
    }

    private func fill(upTo wanted: Int) throws(ChannelError) -> Bool {
        while filled < wanted {
            let outcome: TLSConnection.ReadOutcome
            do throws(TLSError) {
                outcome = try connection.read(into: buffer, at: Self.frameOffset + filled, count: wanted - filled)
            } catch {
                throw .tls(error)
            }
            switch outcome {
            case .bytes(let count): filled += count
            case .wouldBlock: return false
            case .closed where filled == 0 && header == nil: throw .closed
            case .closed, .truncated: throw .cut
            }
        }
        return true
    }

    private func decodeHeader() throws(ChannelError) -> FrameHeader {
        do throws(WireError) {
            return try buffer.withBytes(Self.frameOffset..<Self.frameOffset + FrameHeader.byteCount) {
                bytes throws(WireError) in
                try FrameHeader(decoding: bytes, on: kind, from: peer)
            }
        } catch {
            throw .wire(error)
        }
    }

    private func decode(_ header: FrameHeader) throws(ChannelError) -> Received {
        let start = Self.frameOffset + FrameHeader.byteCount
        let received: Received
        do throws(WireError) {
            received = try buffer.withBytes(start..<start + header.payloadLength) { bytes throws(WireError) in
                header.kind.isPageFrame
                    ? .pages(try PageFrame(header: header, decoding: bytes))
                    : .message(try Message(header: header, payload: bytes))
            }
        } catch {
            throw .wire(error)
        }
        if case .pages(let frame) = received { try checkContents(of: frame) }
        return received
    }

    /// Nobody gets pages that are not those that the source has read.
    private func checkContents(of frame: PageFrame) throws(ChannelError) {
        guard frame.kind.statesContents else { return }
        let digest =
            frame.contentByteCount > 0
            ? PageDigest(of: frame.run, in: buffer, at: Self.contentOffset) : PageDigest(zeros: frame.run)
        guard digest == frame.digest else { throw .corrupted(frame.run) }
    }

    /// Sends a message, waiting for room.
    public func send(_ message: Message, until deadline: Deadline) throws(ChannelError) {
        let bytes = message.encoded()
        do throws(TLSError) {
            try connection.writeFully(bytes, until: deadline)
        } catch {
            throw ChannelError(sending: error)
        }
        bytesSent += UInt64(bytes.count)
    }

    /// Sends a frame of pages, waiting for room; its contents, if it has any, begin at ``contentOffset`` of `buffer`.
    ///
    /// The ``PageFrame/byteCount`` bytes before the contents are overwritten. Allocates nothing.
    public func send(_ frame: PageFrame, from buffer: TransferBuffer, until deadline: Deadline) throws(ChannelError) {
        try send(frame, from: buffer, at: Self.contentOffset, until: deadline)
    }

    /// Sends a frame of pages whose contents begin at `offset` of `buffer`; the bytes of the frame before them are overwritten.
    public func send(
        _ frame: PageFrame,
        from buffer: TransferBuffer,
        at offset: Int,
        until deadline: Deadline
    ) throws(ChannelError) {
        let start = offset - PageFrame.byteCount
        buffer.withMutableBytes(start..<offset) { bytes in frame.encode(into: &bytes) }
        let count = PageFrame.byteCount + frame.contentByteCount
        do throws(TLSError) {
            try connection.writeFully(from: buffer, at: start, count: count, until: deadline)
        } catch {
            throw ChannelError(sending: error)
        }
        bytesSent += UInt64(count)
    }
}

extension FrameChannel {
    /// Most frames that are offered at a time.
    public static let framesAtATime = contentOffset / PageFrame.byteCount

    /// Sends frames without contents, as many as there is room for, in one record; never waits.
    ///
    /// - Parameters:
    ///   - count: how many there are; those beyond ``framesAtATime`` are not looked at.
    ///   - buffer: at least ``contentOffset`` long; what is in front of that is overwritten.
    ///   - frame: one of them.
    /// - Returns: how many were taken. When there is no room for any, wait until the connection is writable and offer the **same**
    ///   frames again, and more behind them if there are any by then.
    public func trySend(
        count: Int,
        from buffer: TransferBuffer,
        _ frame: (Int) -> PageFrame
    ) throws(ChannelError) -> Int {
        let offered = min(count, Self.framesAtATime)
        for index in 0..<offered {
            let frame = frame(index)
            precondition(frame.contentByteCount == 0, "FrameChannel: a frame with contents may not fit")
            let start = index * PageFrame.byteCount
            buffer.withMutableBytes(start..<start + PageFrame.byteCount) { bytes in frame.encode(into: &bytes) }
        }
        let outcome: TLSConnection.WriteOutcome
        do throws(TLSError) {
            outcome = try connection.write(from: buffer, at: 0, count: offered * PageFrame.byteCount)
        } catch {
            throw ChannelError(sending: error)
        }
        switch outcome {
        case .wouldBlock: return 0
        case .bytes(let bytes):
            // A record is taken whole or not at all; it may be that of an earlier offer, with fewer frames.
            precondition(bytes.isMultiple(of: PageFrame.byteCount), "FrameChannel: a part of a frame was taken")
            bytesSent += UInt64(bytes)
            return bytes / PageFrame.byteCount
        }
    }
}
