// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LinuxSystem
public import Logging
public import Reporting
internal import TLSSession

/// The source's half of a move: examine, listen, freeze, describe, grant, serve, complete.
public struct PageServerSession {
    /// What the loop reports when a destination waits to talk.
    static let controlToken: UInt64 = 1
    /// What the loop reports when the process has ended.
    static let endToken: UInt64 = 2
    /// What the loop reports when pre-copy has ended.
    static let preCopyToken: UInt64 = 3
    /// What the loop reports when a destination has come back before the grant.
    static let abandonedToken: UInt64 = 4
    /// What the loop reports when it is known which pages exist.
    static let mapToken: UInt64 = 5

    private let options: PageServerOptions
    private let logger: Logger
    private let status: StatusSink
    private let process: any SourceProcess

    /// Prepares a session; nothing happens before ``run()``.
    public init(options: PageServerOptions, logger: Logger, status: StatusSink) {
        let process = CheckpointedProcess(
            pid: options.pid,
            freezeTimeout: options.freezeTimeout,
            plan: TrackerPlan(options, logger: logger)
        )
        self.init(options: options, process: process, logger: logger, status: status)
    }

    /// A session over any kind of process.
    init(options: PageServerOptions, process: any SourceProcess, logger: Logger, status: StatusSink) {
        var logger = logger
        logger[metadataKey: "process.id"] = "\(options.pid)"
        self.options = options
        self.process = process
        self.logger = logger
        self.status = status
    }

    /// Tells scripts and the operator.
    private func report(_ event: StatusEvent) {
        status.report(event)
        logger.report(event)
    }

    /// Runs the session to its end on the calling thread, which becomes the tracer of the process.
    ///
    /// Never throws: whatever goes wrong is in the outcome. Blocks SIGINT, SIGTERM and SIGHUP in the calling thread and reads them itself,
    /// and leaves the thread only the capabilities that tracing takes.
    public func run() -> (outcome: Outcome, statistics: SessionStatistics) {
        var statistics = SessionStatistics()
        statistics.pid = options.pid
        do throws(SessionFailure) {
            try serve(&statistics)
            return (Outcome(), statistics)
        } catch {
            report(.failed(code: error.code.rawValue, message: error.message))
            statistics.result = Self.result(of: error)
            return (Outcome(error), statistics)
        }
    }

    private static func result(of failure: SessionFailure) -> String {
        switch failure.code {
        case .refused: "refused"
        case .tryAgain: "undone"
        case .interrupted: "interrupted"
        default: "failed"
        }
    }

    private func serve(_ statistics: inout SessionStatistics) throws(SessionFailure) {
        let context = try serverContext()
        try process.examine()
        let record = try options.record.map { folder throws(SessionFailure) in
            try SessionRecorder(folder: folder, pid: options.pid)
        }
        let session: ServedSession
        let loop: ControlLoop
        do throws(SystemCallError) {
            let signals = try SignalDescriptor([.interrupt, .terminate, .hangup])
            session = try ServedSession(pid: options.pid, spin: Spin.time(asked: options.spin, cpus: Self.cpus))
            loop = try ControlLoop(signals: signals, sendTimeout: .seconds(30))
            try loop.watch(session.controls.descriptor, token: Self.controlToken)
            try loop.watch(session.abandoned.descriptor, token: Self.abandonedToken)
            if let end = process.endDescriptor { try loop.watch(end, token: Self.endToken) }
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
        defer { _ = session.stopThreads(within: .seconds(10)) }
        try listen(context, session)
        while true {
            let control = try waitForDestination(loop, session)
            let conversation = SourceConversation(
                process: process,
                options: options,
                session: session,
                loop: loop,
                record: record,
                status: status,
                logger: logger
            )
            switch conversation.run(control) {
            case .nothingHappened:
                do throws(SystemCallError) {
                    try session.sessionEnded()
                } catch {
                    throw SessionFailure(.systemCall, "\(error)")
                }
            case .finished(let failure):
                session.table.withLock { $0.close() }
                _ = session.stopThreads(within: .seconds(10))
                statistics = conversation.finalStatistics(result: failure.map(Self.result) ?? "complete")
                if let failure { throw failure }
                return
            }
        }
    }

    private func serverContext() throws(SessionFailure) -> TLSContext {
        do throws(TLSError) {
            let files = try TLSFiles(options.tls, role: .server)
            return try TLSContext.server(files, allowing: try AllowList(options.allow))
        } catch {
            throw SessionFailure(ExitCode(rawValue: error.exitCode) ?? .bug, error.description)
        }
    }

    private func listen(_ context: TLSContext, _ session: ServedSession) throws(SessionFailure) {
        let listener: Listener
        do throws(SocketError) {
            listener = try Listener(host: options.address, port: options.port)
        } catch {
            throw SessionFailure(listening: error)
        }
        do throws(SystemCallError) {
            try session.startStarter()
            try Acceptor(listener, context, session, logger: logger).start()
            // The port is open and every file is read: what is left is the process.
            try ThreadPrivileges.tracer.limitCurrentThread()
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
        report(.listening(port: listener.address.port))
        do throws(SystemCallError) {
            try ServiceManager.tellReady()
        } catch {
            logger.warning("The service manager could not be told that this is ready", metadata: ["error": "\(error)"])
        }
    }

    private func waitForDestination(_ loop: ControlLoop, _ session: ServedSession) throws(SessionFailure)
        -> ArrivedControl
    {
        while true {
            if let control = session.controls.take() { return control }
            let event: ControlLoop.Event
            do throws(ChannelError) {
                event = try loop.next(until: .never)
            } catch {
                throw SessionFailure(error.exitCode, error.description)
            }
            switch event {
            case .signal(let signal):
                throw SessionFailure(
                    .tryAgain,
                    "ended by \(signal) before any destination came; \(process.name) runs on"
                )
            case .ready(Self.endToken): throw SessionFailure(.notFound, "\(process.name) has ended")
            case .ready, .message, .timedOut: continue
            }
        }
    }

    private static var cpus: Int { (try? CPUAffinity().cpus.count) ?? 1 }
}

extension SessionFailure {
    /// A socket that does not listen.
    init(listening error: SocketError) {
        let code: ExitCode =
            switch error.code {
            case .permission: .permission
            case .addressInUse, .addressNotAvailable: .unavailable
            default: .systemCall
            }
        self.init(code, error.description)
    }
}
