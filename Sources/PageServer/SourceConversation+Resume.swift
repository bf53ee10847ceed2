// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import Logging
internal import PageWire
internal import Paging
internal import Reporting

/// What a destination that has come back says of what it has and what it lacks, piece by piece.
///
/// Only pages that exist are taken, so what it says takes no more memory than they do.
struct Resumption {
    private var pages = PageSet()
    private var options: ResumeOptions?

    /// Takes a piece.
    ///
    /// - Returns: whether it was the last one.
    /// - Throws: ``ChannelError`` when it does not go with what came before, or names pages that do not exist.
    mutating func take(_ runs: [PageRun], _ options: ResumeOptions, existing: PageSet) throws(ChannelError) -> Bool {
        let lasting = options.subtracting(.last)
        guard self.options == nil || self.options == lasting else { throw .unexpected(.resume) }
        self.options = lasting
        for run in runs {
            guard existing.count(in: run.pageNumbers) == run.count else { throw .unexpected(.resume) }
            pages.insert(run.pageNumbers)
        }
        return options.contains(.last)
    }

    /// Whether the destination has the page map.
    var hasMap: Bool { options?.contains(.hasMap) ?? false }
    /// Whether it has the map of pre-copied pages.
    var hasPreCopyMap: Bool { options?.contains(.hasPreCopyMap) ?? false }

    /// What it lacks.
    func missing(of existing: PageSet) -> PageSet {
        guard !hasMap else { return pages }
        var rest = existing
        rest.subtract(pages)
        return rest
    }
}

// The destination has lost its connections behind the grant and comes back.
extension SourceConversation {
    /// How long a destination may take to say what it lacks.
    private static let resumeTimeout = Duration.seconds(60)

    /// A control connection that names the session.
    func controlReturned() -> Ending? {
        guard let control = session.controls.take() else { return nil }
        guard control.generation == session.table.withLock({ $0.generation }), isGranted || commit.state == .completed
        else {
            session.ended(control.channel)
            return nil
        }
        dropArrived()
        // One that has broken without a word.
        if loop.channel != nil, let ending = broke(.closed, commit.connectionLost()), commit.state != .completed {
            session.ended(control.channel)
            return ending
        }
        hangUp()
        arrived = control
        FaultPoint.hit(.sourceControlReturned)
        do throws(SystemCallError) {
            try loop.watch(session.ledger.readyDescriptor, token: PageServerSession.mapToken)
        } catch {
            logger.error("A destination that is back cannot be served", metadata: ["reason": "\(error)"])
            dropArrived()
        }
        return nil
    }

    /// Which pages exist is known: what the destination says of them can be checked as it comes.
    func mapIsKnown() -> Ending? {
        try? loop.unwatch(session.ledger.readyDescriptor)
        guard let control = arrived else { return nil }
        arrived = nil
        guard session.ledger.existingCount != nil else {
            session.ended(control.channel)
            return endGranted("the pages of the process could not be found out")
        }
        do throws(SystemCallError) {
            try loop.attach(control.channel)
        } catch {
            session.ended(control.channel)
            return nil
        }
        generation = control.generation
        resumption = Resumption()
        if commit.state != .completed { setDeadline(.after(Self.resumeTimeout)) }
        return nil
    }

    /// Forgets a destination that has come back and cannot be heard yet.
    func dropArrived() {
        guard let control = arrived else { return }
        arrived = nil
        try? loop.unwatch(session.ledger.readyDescriptor)
        session.ended(control.channel)
    }

    /// RESUME arrived.
    func resume(_ runs: [PageRun], _ options: ResumeOptions) throws(ChannelError) -> Ending? {
        let existing = session.ledger.map
        guard try resumption?.take(runs, options, existing: existing) == true, let said = resumption else { return nil }
        resumption = nil
        guard commit.state != .completed else {
            try loop.send(.resumed)
            return nil
        }
        guard session.pageConnections.waitUntilZero(until: .after(.seconds(10))) else { throw .timedOut }
        session.ledger.resumed(
            missing: said.missing(of: existing),
            hasMap: said.hasMap,
            hasPreCopyMap: said.hasPreCopyMap
        )
        let generation = generation
        session.table.withLock { $0.resumed(generation) }
        try loop.send(.resumed)
        setDeadline(.never)
        lostUntil = nil
        statistics.reconnects += 1
        FaultPoint.hit(.sourceResumed)
        report(.resumed)
        return nil
    }

    /// A destination that was being served has come back before it was granted anything: it has lost its connection.
    func abandoned() -> Ending? {
        session.abandoned.drain()
        guard !isGranted, commit.state != .completed, session.table.withLock({ $0.isAbandoned }) else { return nil }
        return broke(.closed, commit.connectionLost())
    }

    /// Nobody has come back in time.
    func waitedLongEnough() -> Ending? {
        commit.state == .completed ? .finished(nil) : endGranted("the destination has not come back in time")
    }
}
