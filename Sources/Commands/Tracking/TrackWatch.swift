// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import ProcessTrace
internal import Reporting

/// What can happen between two looks at a process.
struct TrackWatch {
    /// What has happened.
    enum Event: Equatable {
        /// Nothing, up to the deadline.
        case timeout
        /// A signal that ends the run.
        case signal(Signal)
        /// The process has ended.
        case processEnded
        /// Nobody reads standard output any more.
        case outputClosed
    }

    private enum Token {
        static let signal: UInt64 = 0
        static let process: UInt64 = 1
        static let output: UInt64 = 2
    }

    private let signals: SignalDescriptor
    private let process: ProcessDescriptor
    private let poller: Poller

    /// Begins to watch; called before the program starts a thread.
    init(_ pid: Int32) throws(SessionFailure) {
        do throws(SystemCallError) {
            process = try ProcessDescriptor(pid: pid)
        } catch {
            throw TrackTarget.failure(error, opening: pid)
        }
        do throws(SystemCallError) {
            signals = try SignalDescriptor(Self.endingSignals)
            poller = try Poller(capacity: 3)
            try poller.add(signals.descriptor, token: Token.signal)
            try poller.add(process.descriptor, token: Token.process)
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
        // Files cannot be watched, and are never closed by somebody else.
        try? poller.add(StandardStream.output.rawValue, token: Token.output, for: [])
    }

    /// Waits until something happens; a signal is the user's and comes first.
    func wait(until deadline: Deadline) throws(SessionFailure) -> Event {
        do throws(SystemCallError) {
            let count = try poller.wait(until: deadline)
            let tokens = Set((0..<count).map { poller[$0].token })
            if tokens.contains(Token.signal), let received = try signals.next() { return .signal(received.signal) }
            if tokens.contains(Token.process) { return .processEnded }
            if tokens.contains(Token.output) { return .outputClosed }
            return .timeout
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
    }

    /// Whether the process has ended.
    func processHasEnded() throws(SessionFailure) -> Bool {
        do throws(SystemCallError) {
            return try process.waitForEnd(until: .immediate)
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
    }

    /// SIGINT and SIGTERM, and SIGHUP unless nohup(1) has asked for it to be ignored.
    private static var endingSignals: SignalSet {
        let ignored = (try? ProcessStatus.read(getpid()))?.ignoredSignals ?? 0
        return SignalSet(rawValue: ignored).contains(.hangup)
            ? [.interrupt, .terminate] : [.interrupt, .terminate, .hangup]
    }
}
