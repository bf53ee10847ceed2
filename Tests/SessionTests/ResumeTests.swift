// SPDX-License-Identifier: Apache-2.0
import FrameTransport
import LazyRestore
import LinuxSystem
import PageWire
import Paging
import Reporting
import TestSupport
import Testing

@testable import PageServer

/// A destination that loses its connections behind the grant and comes back.
@Suite(.serialized, .timeLimit(.minutes(5))) struct ResumeTests {
    private static let memory: FakeMemory = {
        var memory = FakeMemory()
        memory.data.insert(0x100..<0x1c0)
        memory.data.insert(0x7000..<0x7003)
        memory.zero.insert(0x300..<0x345)
        return memory
    }()

    private static let everything: ResumeOptions = [.hasMap, .hasPreCopyMap]

    private func heldServer(_ process: FakeProcess = FakeProcess(memory)) throws -> ServerUnderTest {
        try ServerUnderTest(process) { $0.hold = .seconds(20) }
    }

    /// A destination whose process runs, with the session; its connections are cut.
    private func brokenSession(_ server: ServerUnderTest, fetching pages: Range<UInt64>? = nil) throws
        -> SessionIdentifier
    {
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        _ = try destination.reachGrant()
        try destination.send(.running)
        if let pages { _ = try destination.fetch(pages.lowerBound, count: UInt32(pages.count)) }
        destination.vanish()
        try server.events.wait(for: .lost)
        return destination.session
    }

    private func finish(_ destination: ScriptedDestination, _ server: ServerUnderTest, _ digest: PageDigest) throws {
        try destination.send(.complete(PageTally(digest)))
        guard case .acknowledged = try destination.receive() else { throw TestFailure("not acknowledged") }
        destination.vanish()
        #expect(try server.outcome().outcome == Outcome())
        #expect(server.process.done == [.examined, .frozen, .committed, .killed])
    }

    @Test func whatIsMissingIsSentAgainAndCountedOnce() throws {
        let server = try heldServer()
        let session = try brokenSession(server, fetching: 0x100..<0x120)
        // The first 16 of the pages that were sent have arrived, the others are lost.
        var missing = Self.memory.existing
        missing.remove(0x100..<0x110)
        let back = try ScriptedDestination(port: server.port, session: session)
        #expect(back.session == session)
        try back.resume(missing, Self.everything)
        try server.events.wait(for: .resumed)
        try back.openPageConnections()
        try back.send(.running)
        var digest = PageDigest()
        for page in UInt64(0x100)..<0x110 {
            digest.add(address: VirtualAddress(page << 12), page: FakeMemory.bytes(of: page).span)
        }
        guard let bulk = back.bulk else { throw TestFailure("no bulk connection") }
        var sent = PageSet()
        receiving: while true {
            try back.showLife()
            switch try bulk.receive(until: .after(patience)) {
            case .pages(let frame):
                let first = frame.address.pageNumber
                #expect(sent.insert(first..<first + UInt64(frame.count)) == UInt64(frame.count), "once")
                for index in 0..<UInt64(frame.count) {
                    let address = VirtualAddress((first + index) << 12)
                    if frame.kind == .zeroRun {
                        digest.addZeros(address: address)
                    } else {
                        digest.add(address: address, page: FakeMemory.bytes(of: first + index).span)
                    }
                }
            case .message(.drained(let pages)):
                #expect(pages == Self.memory.existing.count)
                break receiving
            case .message(let other): throw TestFailure("unexpected \(other.kind)")
            case .nothing: continue
            }
        }
        #expect(sent == missing, "neither the map nor what is there comes again")
        #expect(digest == Self.memory.digest)
        try finish(back, server, digest)
        #expect(try server.outcome().statistics.reconnects == 1)
    }

    @Test func aDestinationWithoutTheMapGetsIt() throws {
        let server = try heldServer()
        let session = try brokenSession(server, fetching: 0x100..<0x110)
        var present = PageSet()
        present.insert(0x100..<0x110)
        let back = try ScriptedDestination(port: server.port, session: session)
        try back.resume(present, .hasPreCopyMap)
        try back.openPageConnections()
        var digest = PageDigest()
        for page in UInt64(0x100)..<0x110 {
            digest.add(address: VirtualAddress(page << 12), page: FakeMemory.bytes(of: page).span)
        }
        #expect(try back.drain(into: &digest) == Self.memory.existing)
        #expect(digest == Self.memory.digest)
        try finish(back, server, digest)
    }

    /// The source has sent pages and could not count them; the destination has them and needs nothing.
    @Test func whoHasEverythingNeedsNoStreamToComplete() throws {
        let server = try heldServer()
        let session = try brokenSession(server)
        let back = try ScriptedDestination(port: server.port, session: session)
        try back.resume(PageSet(), Self.everything)
        try finish(back, server, Self.memory.digest)
    }

    @Test func theGrantIsSentAgainToWhoHasNotRun() throws {
        let server = try heldServer()
        let destination = try ScriptedDestination(port: server.port)
        let guards = try destination.reachGrant()
        destination.vanish()
        try server.events.wait(for: .lost)
        let back = try ScriptedDestination(port: server.port, session: destination.session)
        try back.resume(PageSet(), .hasPreCopyMap)
        try back.send(.built)
        guard case .grant(let again) = try back.receive() else { throw TestFailure("no grant") }
        #expect(again == guards)
        #expect(server.process.done == [.examined, .frozen, .committed], "recorded once")
        back.vanish()
    }

    @Test func theAcknowledgementIsSentAgain() throws {
        let server = try ServerUnderTest(FakeProcess(Self.memory)) { $0.linger = .seconds(20) }
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        _ = try destination.reachGrant()
        var digest = PageDigest()
        _ = try destination.drain(into: &digest)
        try destination.send(.complete(PageTally(digest)))
        try server.events.wait(for: "complete") { if case .complete = $0 { true } else { false } }
        // It is lost with everything else, without an end of the connection in order.
        let back = try ScriptedDestination(port: server.port, session: destination.session)
        try back.resume(PageSet(), Self.everything)
        try back.send(.complete(PageTally(digest)))
        guard case .acknowledged = try back.receive() else { throw TestFailure("not acknowledged") }
        #expect(server.process.done == [.examined, .frozen, .committed, .killed], "freed once")
        back.vanish()
        #expect(try server.outcome().outcome == Outcome())
    }

    @Test func nobodyElseTakesTheSessionUp() throws {
        let folder = try BadCertificates.directory()
        let server = try ServerUnderTest(FakeProcess(Self.memory)) { options in
            options.tls.directory = folder
            options.hold = .seconds(20)
        }
        let destination = try ScriptedDestination(port: server.port) { $0.tls.directory = folder }
        _ = try destination.reachGrant()
        destination.vanish()
        try server.events.wait(for: .lost)
        var bytes = destination.session.bytes
        bytes[31] ^= 1
        let wrong = try #require(SessionIdentifier(bytes: bytes))
        let stranger = #expect(throws: SessionFailure.self) {
            try ScriptedDestination(port: server.port, session: wrong) { $0.tls.directory = folder }
        }
        #expect(stranger?.code == .peer)
        let second = #expect(throws: SessionFailure.self) {
            try ScriptedDestination(port: server.port) { $0.tls.directory = folder }
        }
        #expect(second?.code == .tryAgain)
        // The same name with a certificate of its own is the same one.
        let renewed = try ScriptedDestination(port: server.port, session: destination.session) { options in
            options.tls.directory = folder
            options.tls.certificate = "\(folder)/renewed-client-cert.pem"
            options.tls.key = "\(folder)/renewed-client-key.pem"
        }
        try renewed.resume(PageSet(), .hasPreCopyMap)
        try renewed.openPageConnections()
        renewed.vanish()
    }

    /// One that lies about what it lacks changes nothing for the next attempt.
    @Test func pagesThatDoNotExistAreNotMissing() throws {
        let server = try heldServer()
        let session = try brokenSession(server)
        let liar = try ScriptedDestination(port: server.port, session: session)
        try liar.send(
            .resume(runs: [PageRun(address: VirtualAddress(0), count: 1 << 40)], options: [.last, .hasMap])
        )
        #expect(throws: (any Error).self) { try liar.receive() }
        let silent = try ScriptedDestination(port: server.port, session: session)
        try silent.send(.running)
        #expect(throws: (any Error).self) { try silent.receive() }
        let back = try ScriptedDestination(port: server.port, session: session)
        try back.resume(PageSet(), Self.everything)
        try finish(back, server, Self.memory.digest)
    }

    @Test func aConnectionThatHasNotBrokenHereYetIsReplaced() throws {
        let server = try heldServer()
        let destination = try ScriptedDestination(port: server.port)
        try destination.openPageConnections()
        _ = try destination.reachGrant()
        try destination.send(.running)
        let back = try ScriptedDestination(port: server.port, session: destination.session)
        try back.resume(PageSet(), Self.everything)
        #expect(throws: (any Error).self) { try destination.receive() }
        try finish(back, server, Self.memory.digest)
        #expect(server.events.all.filter { $0 == .lost }.count == 1)
    }

    /// It is told that there is no such session, so nothing may be granted to it any more.
    @Test func whoComesBackBeforeTheGrantIsUndone() throws {
        let server = try heldServer()
        let destination = try ScriptedDestination(port: server.port)
        _ = try destination.describe()
        let failure = #expect(throws: SessionFailure.self) {
            try ScriptedDestination(port: server.port, session: destination.session)
        }
        #expect(failure?.code == .peer)
        #expect(try server.outcome().outcome.exitStatus == 75)
        #expect(server.process.done == [.examined, .frozen, .thawed])
    }
}
