// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
internal import Logging
internal import PageWire
internal import Paging
internal import Reporting

// Before the freeze: the process runs, and nothing that goes wrong here touches it.
extension SourceConversation {
    /// How long nobody may take the job, or be told of its end.
    private static let preCopyPatience = Duration.seconds(60)

    /// Where pre-copy stands.
    enum PreCopyState {
        case none
        case running(PreCopyJob)
        case over(PreCopied)
    }

    /// PRE_COPY arrived: a bulk connection sends pages until its rule says stop.
    func preCopy(_ request: PreCopyRequest) throws(ChannelError) -> Ending? {
        guard commit.state == .waiting, case .none = preCopyState else { throw .unexpected(.preCopy) }
        do throws(SessionFailure) {
            tracker = options.preCopy ? try process.track() : nil
            let job = try startPreCopy(request)
            preCopyState = .running(job)
        } catch {
            return undo(commit.failed(), error)
        }
        setDeadline(.after(Self.preCopyPatience))
        return nil
    }

    private func startPreCopy(_ request: PreCopyRequest) throws(SessionFailure) -> PreCopyJob {
        do throws(SystemCallError) {
            let job = PreCopyJob(tracker: tracker, request: request, status: status, done: try Handover())
            try loop.watch(job.done.descriptor, token: PageServerSession.preCopyToken)
            session.preCopyJobs.put(job)
            return job
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
    }

    /// The thread of the bulk connection has said something.
    func preCopyEnded() -> Ending? {
        guard case .running(let job) = preCopyState, let result = job.done.take() else { return nil }
        try? loop.unwatch(job.done.descriptor)
        switch result {
        case .success(let sent):
            preCopyState = .over(sent)
            preCopied(sent)
            FaultPoint.hit(.sourcePreCopied)
            setDeadline(.after(Self.preCopyPatience))
            return nil
        case .failure(.failed(let failure)):
            preCopyState = .over(PreCopied())
            return undo(commit.failed(), failure)
        case .failure(.lost(let error)):
            // Whichever of its connections is the first to tell.
            preCopyState = .over(PreCopied())
            return broke(error, commit.connectionLost())
        }
    }

    /// Whether the destination may still take its time.
    func preCopyGoesOn() -> Bool {
        guard case .running = preCopyState, session.preCopyJobs.isEmpty else { return false }
        setDeadline(.after(Self.preCopyPatience))
        return true
    }

    /// Ends tracking, with nobody at work on it any more.
    func endTracking() {
        if case .running(let job) = preCopyState {
            // What nobody has begun nobody ends.
            if session.preCopyJobs.take() == nil {
                session.connectionStop.signal()
                // The thread of the connection notices at its next frame.
                _ = try? DescriptorIO.wait(for: .readable, on: job.done.descriptor, until: .after(.seconds(10)))
            }
            try? loop.unwatch(job.done.descriptor)
            preCopyState = .none
        }
        tracker?.end()
        tracker = nil
    }

    /// What pre-copy has sent.
    var preCopied: PreCopied {
        if case .over(let sent) = preCopyState { return sent }
        return PreCopied()
    }
}
