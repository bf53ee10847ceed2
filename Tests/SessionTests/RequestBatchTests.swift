// SPDX-License-Identifier: Apache-2.0
import FrameTransport
import Glibc
import LinuxSystem
import PageWire
import Paging
import TLSSession
import TestSupport
import Testing

/// Requests that are sent together.
@Suite(.serialized) struct RequestBatchTests {
    private static let first: UInt64 = 0x100
    private static let pages: UInt64 = 64
    private static var data: PageSet {
        var data = PageSet()
        data.insert(first..<first + pages)
        return data
    }

    /// A connection for faults of a session in which the process is frozen.
    private func withFaultConnection(_ body: (FrameChannel) throws -> Void) throws {
        let memory = FakeMemory(data: Self.data)
        let server = try ServerUnderTest(FakeProcess(memory))
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        _ = try destination.reachGrant()
        try body(try #require(destination.fault))
        destination.vanish()
    }

    /// The request of that number: the pages in turn.
    private func request(_ number: Int) -> PageFrame {
        PageFrame(
            kind: .requestPages,
            request: UInt64(number),
            address: VirtualAddress((Self.first + UInt64(number) % Self.pages) << 12),
            count: 1
        )
    }

    private func expectAnswer(to number: Int, on channel: FrameChannel) throws {
        guard case .pages(let frame) = try channel.receive(until: .after(patience)), frame.kind == .pages,
            frame.request == UInt64(number), frame.address == request(number).address
        else { throw TestFailure("request \(number) was not answered in its turn") }
    }

    @Test func eachIsAnsweredInItsTurn() throws {
        try withFaultConnection { channel in
            let buffer = try TransferBuffer(capacity: FrameChannel.contentOffset)
            // One record takes no more.
            let sent = try channel.trySend(count: 1000, from: buffer) { request($0) }
            #expect(sent == FrameChannel.framesAtATime)
            for number in 0..<sent { try expectAnswer(to: number, on: channel) }
        }
    }

    /// Answers that are not read hold the source back, and then requests are not taken: they are offered again, more of them.
    @Test func whatFindsNoRoomIsOfferedAgainWithMoreBehindIt() throws {
        try withFaultConnection { channel in
            let buffer = try TransferBuffer(capacity: FrameChannel.contentOffset)
            var bytes: Int32 = 16384
            let size = socklen_t(MemoryLayout<Int32>.size)
            unsafe setsockopt(channel.connection.descriptor, SOL_SOCKET, SO_SNDBUF, &bytes, size)
            var sent = 0
            var offered = 1
            let deadline = Deadline.after(patience)
            while true {
                let taken = try channel.trySend(count: offered, from: buffer) { request(sent + $0) }
                guard taken > 0 else { break }
                sent += taken
                offered = offered % 100 + 1
                try #require(!deadline.hasPassed)
            }
            var answered = 0
            let total = sent + 500
            while answered < total {
                if sent < total {
                    // At first the pending record, of those that were offered before, is taken.
                    sent += try channel.trySend(count: total - sent, from: buffer) { request(sent + $0) }
                }
                while answered < sent {
                    try expectAnswer(to: answered, on: channel)
                    answered += 1
                    if sent < total { break }
                }
            }
            #expect(sent == total)
        }
    }
}
