// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LazyPages
internal import LinuxSystem
internal import Logging
internal import PageWire
internal import Paging
internal import Reporting
internal import Synchronization
internal import TLSSession
internal import Userfaultfd

/// The thread on the way of every fault: it reads the userfaultfds, asks the source, and installs what comes, all by itself.
///
/// The order in each turn: events and faults, requests, answers. When nothing happens it looks again for a short time, because a
/// wake-up costs more than the rest of the way, and then sleeps until a descriptor is ready.
final class FaultThread {
    private enum Token {
        static let channel: UInt64 = 0
        static let stop: UInt64 = 1
        static let attention: UInt64 = 2
        static let channels: UInt64 = 3
        static let spaces: UInt64 = 16
    }

    private let memory: LazyMemory
    private let shared: RestoreShared
    private let guardian: Guardian
    /// The connection, or the last one until there is another; nil when there was none yet.
    private var channel: FrameChannel?
    private var generation: UInt64 = 1
    private var spin: Spin
    private let logger: Logger
    private let poller: Poller
    private let outgoing: TransferBuffer
    private var requests: [PageRequest] = []
    private var nextRequest = 0
    private var requestNumber: UInt64 = 0
    private var waitsForRoom = false
    /// Pages that were asked for and have not come.
    private var openPages: UInt64 = 0
    /// Faults wait for the kernel to be done with a change of the address space: look again soon.
    private var holdsFaultsBack = false
    /// Pages that were asked for come by the stream: look whether it goes on.
    private var awaitsStream = false
    /// The userfaultfd of lazy shared memory.
    private var objects: WatchedObjects?

    /// Not watched while an event waits on it that cannot be read yet: it would be told again and again.
    private struct WatchedObjects {
        var descriptor: Int32
        var isHeld = false
    }

    /// Where this thread runs; made by the thread itself.
    private var placement: ThreadPlacement?

    /// When something has come over the connection, or when the first page was asked for since.
    private var lastHeard = MonotonicTime.now
    /// How long nothing may come that was asked for.
    private let patience: Duration

    /// Most pages that are asked for at once so that an event can be read: a fault waits for no more than these.
    private static let pagesForEvent: UInt64 = 256

    init(
        memory: LazyMemory,
        shared: RestoreShared,
        guardian: Guardian,
        channel: FrameChannel?,
        spin: Duration,
        patience: Duration,
        logger: Logger
    ) throws(SystemCallError) {
        self.memory = memory
        self.shared = shared
        self.guardian = guardian
        self.channel = channel
        self.spin = Spin(spin)
        self.patience = patience
        self.logger = logger
        poller = try Poller()
        outgoing = try TransferBuffer(capacity: FrameChannel.contentOffset)
        requests.reserveCapacity(4096)
    }

    /// Watches the userfaultfd of a space; called before ``run()`` for the process itself.
    func watch(_ uffd: Int32, number: UInt32) throws(SystemCallError) {
        if number == SpaceIdentifier.objects.number {
            // Those of children are not read before everything is there.
            guard objects == nil else { return }
            objects = WatchedObjects(descriptor: uffd)
        }
        try poller.add(uffd, token: Token.spaces + UInt64(number))
    }

    /// Serves until the session stops, over one connection after the other, and without one in between.
    func run() {
        placement = shared.place(.waker)
        do {
            if let channel { try poller.add(channel.connection.descriptor, token: Token.channel) }
            try poller.add(shared.stop.descriptor, token: Token.stop)
            try poller.add(memory.attention.descriptor, token: Token.attention)
            try poller.add(shared.faultChannels.descriptor, token: Token.channels)
            while try serveOnce() != .stop { try changeChannel() }
        } catch {
            logger.error("The memory of the process is not served any more", metadata: ["reason": "\(error)"])
        }
        if let channel { shared.ended(channel) }
    }

    /// Serves until the connection has to be changed, first with the one that there is and then without.
    private func serveOnce() throws -> Turn {
        guard let channel else { return try answerLocally() }
        do {
            return try serve(channel)
        } catch {
            shared.lost(Loss(of: "fault", error), of: generation)
            try poller.remove(channel.connection.descriptor)
            return try answerLocally()
        }
    }

    /// Takes the connection that has come in place of the last one, and asks anew for everything that was asked for.
    private func changeChannel() throws {
        guard let next = shared.faultChannels.take() else { return }
        if let channel {
            // It may still be watched.
            try? poller.remove(channel.connection.descriptor)
            shared.ended(channel)
        }
        channel = next.channel
        generation = next.generation
        openPages = 0
        nextRequest = 0
        waitsForRoom = false
        requests.removeAll(keepingCapacity: true)
        memory.with(.fault) { $0.repeatRequests(into: &requests) }
        try poller.add(next.channel.connection.descriptor, token: Token.channel)
    }

    /// Why a loop has ended.
    private enum Turn {
        case goOn, stop, changeChannel
    }

    /// What there is to do.
    private struct Work {
        var turn = Turn.goOn
        var memory: Bool
        var channel = false
    }

    private func serve(_ channel: FrameChannel) throws -> Turn {
        var work = Work(memory: true, channel: channel.hasBufferedBytes)
        while true {
            if work.memory { try readMemory() }
            try sendRequests(channel)
            if work.channel { try receiveAnswers(channel) }
            work = try waitForWork()
            if work.turn != .goOn { return work.turn }
            guard openPages > 0 else { continue }
            if work.channel { lastHeard = .now }
            if lastHeard.elapsed > patience { throw ChannelError.timedOut }
        }
    }

    /// Waits until a descriptor is ready, or until a change of the address space that holds up faults may be over.
    private func waitForWork() throws(SystemCallError) -> Work {
        let count = try waitForEvents()
        var work = Work(memory: count == 0)
        for index in 0..<count {
            switch poller[index].token {
            case Token.stop: return Work(turn: .stop, memory: false)
            case Token.channels: work.turn = .changeChannel
            case Token.attention:
                memory.attention.drain()
                work.memory = true
            case Token.channel: work.channel = true
            default: work.memory = true
            }
        }
        return work
    }

    private func waitForEvents() throws(SystemCallError) -> Int {
        // An answer that is under way is worth more patience than a fault that may not come.
        spin.begin(at: .now, patience: openPages > 0 ? 4 : 1)
        while spin.continues(at: .now) {
            let count = try poller.wait(until: .immediate)
            if count > 0 { return count }
        }
        let looksAgain = holdsFaultsBack || objects?.isHeld == true
        guard !looksAgain else { return try poller.wait(until: .after(.milliseconds(1))) }
        guard !awaitsStream else { return try poller.wait(until: .after(StreamWatch.patience)) }
        return try poller.wait(until: openPages > 0 ? .after(patience) : .never)
    }

    /// Reads events and faults, answers what can be answered here, takes the requests.
    private func readMemory(isConnected: Bool = true) throws {
        var children: [AddressSpaceHandle] = []
        var (objectsAreHeld, objectsAreComplete) = (false, false)
        try memory.with(.fault) { state throws(SystemCallError) in
            try state.lookAtStream()
            awaitsStream = state.books.awaitsStream
            _ = try state.service()
            state.takeRequests(into: &requests)
            (objectsAreHeld, objectsAreComplete) = (state.objectsAreHeld, state.objects?.isComplete == true)
            if isConnected, objectsAreHeld, openPages < Self.pagesForEvent, requests.isEmpty {
                state.requestObjects(into: &requests, limit: Self.pagesForEvent - openPages)
            }
            children = state.takeUnguarded()
            holdsFaultsBack = state.hasDeferredFaults
        }
        for child in children {
            try guardian.hold(userfaultfd: child.uffd.descriptor)
            if child.identifier != .objects {
                try watch(child.uffd.descriptor, number: child.identifier.number)
            } else if objectsAreComplete {
                try poller.add(child.uffd.descriptor, token: Token.spaces + UInt64(child.identifier.number))
            }
        }
        try watchObjects(areHeld: objectsAreHeld)
    }

    private func watchObjects(areHeld: Bool) throws(SystemCallError) {
        guard let known = objects, known.isHeld != areHeld else { return }
        objects?.isHeld = areHeld
        if areHeld {
            try poller.remove(known.descriptor)
        } else {
            try poller.add(known.descriptor, token: Token.spaces + UInt64(SpaceIdentifier.objects.number))
        }
    }

    /// Sends what there is room for; the thread that reads events must not wait for the network.
    private func sendRequests(_ channel: FrameChannel) throws {
        guard nextRequest < requests.count else { return }
        if nextRequest == 0 {
            shared.pace.noted(isAlone: openPages == 0 && requests.count == 1, at: MonotonicTime.now.nanoseconds)
            placement?.follow(shared.pace)
        }
        while nextRequest < requests.count {
            let sent = try channel.trySend(count: requests.count - nextRequest, from: outgoing) { index in
                PageFrame(
                    kind: .requestPages,
                    request: requestNumber + UInt64(index) + 1,
                    address: requests[nextRequest + index].address,
                    count: requests[nextRequest + index].count,
                    remaining: requests[nextRequest + index].expected
                )
            }
            guard sent > 0 else { return try waitForRoom(true, of: channel) }
            if openPages == 0 { lastHeard = .now }
            for request in requests[nextRequest..<nextRequest + sent] { openPages += UInt64(request.count) }
            requestNumber += UInt64(sent)
            nextRequest += sent
            FaultPoint.hit(.destinationFaultRequested)
        }
        requests.removeAll(keepingCapacity: true)
        nextRequest = 0
        try waitForRoom(false, of: channel)
    }

    private func waitForRoom(_ waits: Bool, of channel: FrameChannel) throws(SystemCallError) {
        guard waits != waitsForRoom else { return }
        waitsForRoom = waits
        let interest: Poller.Readiness = waits ? [.readable, .writable] : .readable
        try poller.change(channel.connection.descriptor, token: Token.channel, for: interest)
    }

    /// Installs what has come; the poller tells when more does.
    private func receiveAnswers(_ channel: FrameChannel) throws {
        repeat {
            switch try channel.receive() {
            case .nothing: return
            case .message(let message): throw ChannelError.unexpected(message.kind)
            case .pages(let frame): try take(frame, from: channel.buffer)
            }
        } while channel.hasBufferedBytes
    }

    private func take(_ frame: PageFrame, from buffer: TransferBuffer) throws {
        openPages -= min(openPages, UInt64(frame.count))
        let content: Arrival.Content
        switch frame.kind {
        case .pages: content = .data
        case .zeroPages: content = .zeros
        case .absentPages: content = .absent
        case .guardPages: return try memory.requestMetGuards(frame.run)
        case .sentPages:
            awaitsStream = true
            return try memory.with(.fault) { state throws(SystemCallError) in try state.sentByStream(frame.run) }
        case .failed:
            let request = PageRequest(address: frame.address, count: frame.count)
            memory.with(.fault) { $0.requestFailed(request) }
            throw SessionFailure(
                .interrupted,
                "the source cannot read pages of its process any more (code \(frame.remaining))"
            )
        default:
            throw ChannelError.unexpected(frame.kind)
        }
        shared.bytesReceived.add(UInt64(frame.contentByteCount), ordering: .relaxed)
        let arrival = Arrival(address: frame.address, count: frame.count, content: content)
        let digest = content == .absent ? nil : frame.digest
        try memory.deliver(arrival, digest, from: buffer, at: FrameChannel.contentOffset, .fault)
        FaultPoint.hit(.destinationFaultInstalled)
    }

    /// Without the source events are still read (the process would hang in munmap and fork), and what needs no source is answered.
    private func answerLocally() throws -> Turn {
        while true {
            try readMemory(isConnected: false)
            requests.removeAll(keepingCapacity: true)
            nextRequest = 0
            let turn = try waitForWork().turn
            if turn != .goOn { return turn }
        }
    }
}

extension SessionFailure {
    /// What a page connection that does not go on means.
    init(losing connection: String, _ error: any Error) {
        switch error {
        case let error as SessionFailure: self = error
        case let error as ChannelError: self.init(error.exitCode, "the \(connection) connection was lost: \(error)")
        case let error as LazyPagesError: self.init(.peer, error.description)
        default: self.init(.systemCall, "the \(connection) connection is not served any more: \(error)")
        }
    }
}
