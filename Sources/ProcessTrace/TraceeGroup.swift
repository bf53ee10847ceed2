// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
public import LinuxSystem

/// All threads of a process, stopped.
public final class TraceeGroup {
    /// Id of the process.
    public let pid: Int32
    /// The threads, the leader first.
    public private(set) var tracees: [Tracee]

    private init(pid: Int32, tracees: [Tracee]) {
        self.pid = pid
        self.tracees = tracees
    }

    /// Makes a group of threads that are traced already.
    public convenience init(pid: Int32, adopting tracees: [Tracee]) {
        self.init(pid: pid, tracees: tracees)
    }

    /// The leader.
    public var leader: Tracee {
        tracees[0]
    }

    /// Whether a signal had stopped the process; it is stopped again when it is let go.
    public var wasStoppedBySignal: Bool {
        tracees.contains {
            if case .groupStop = $0.stop { true } else { false }
        }
    }

    /// Adds a thread that an injected call has made.
    public func add(_ tracee: Tracee) {
        tracees.append(tracee)
    }

    /// Stops all threads of a process.
    ///
    /// Signals that are on their way are delivered first, so that none is held back. A thread in user code stops at its next
    /// instruction, one in a system call at the end of it or with a restart code in its registers.
    /// - Throws: ``TraceError``; every thread that was stopped runs on then. A thread that could not be stopped before the
    ///   deadline (uninterruptible sleep) stays attached, and so stops when it can, until the calling thread ends.
    public static func freeze(
        _ pid: Int32,
        options: TraceOptions = [],
        deadline: Deadline
    ) throws(TraceError) -> TraceeGroup {
        var freezing = Freezing(pid: pid, options: options, deadline: deadline)
        do {
            try freezing.run()
        } catch {
            freezing.undo()
            throw error
        }
        return TraceeGroup(pid: pid, tracees: freezing.stopped)
    }

    /// Lets one thread go before the others.
    ///
    /// - Throws: ``TraceError`` with code `gone` when it has been killed; it is still held then.
    public func detach(_ tracee: Tracee) throws(TraceError) {
        try tracee.detach()
        tracees.removeAll { $0 === tracee }
    }

    /// Lets all threads go, each from where it stands.
    ///
    /// - Throws: The first failure, after all threads have been tried.
    public func thaw() throws(TraceError) {
        var failure: TraceError?
        var ended: [Tracee] = []
        for tracee in tracees {
            do {
                if try !tracee.detachUnlessEnded() { ended.append(tracee) }
            } catch {
                failure = failure ?? error
            }
        }
        do { try Self.wait(forEndOf: ended, deadline: .after(Self.endTime)) } catch { failure = failure ?? error }
        tracees.removeAll()
        if let failure { throw failure }
    }

    /// How long the end of a thread that was killed is waited for.
    private static let endTime = Duration.seconds(10)

    /// Kills the process and waits until every traced thread has ended.
    ///
    /// A thread that nobody waits for keeps the leader's end from being seen by anybody.
    public func kill(deadline: Deadline) throws(TraceError) {
        guard Glibc.kill(pid, SIGKILL) == 0 || errno == ESRCH else {
            throw TraceError(SystemCallError("kill", Errno(rawValue: errno)), "Cannot kill process \(pid)")
        }
        try Self.wait(forEndOf: tracees, deadline: deadline)
        tracees.removeAll()
    }

    private static func wait(forEndOf tracees: [Tracee], deadline: Deadline) throws(TraceError) {
        // The leader's end is reported after that of all others.
        for tracee in tracees.reversed() { try tracee.waitForEnd(deadline: deadline) }
    }
}

/// The work of ``TraceeGroup/freeze(_:options:deadline:)``.
private struct Freezing {
    let pid: Int32
    let options: TraceOptions
    let deadline: Deadline
    var stopped: [Tracee] = []
    var waiting: [Tracee] = []
    var vanished: Set<Int32> = []

    init(pid: Int32, options: TraceOptions, deadline: Deadline) {
        self.pid = pid
        self.options = options
        self.deadline = deadline
    }

    /// A thread that is not stopped yet can make others, so the list is read until a whole pass finds nothing new.
    mutating func run() throws(TraceError) {
        while try seizeNewThreads() {
            try collectStops()
            guard !deadline.hasPassed else {
                throw TraceError(.timedOut, "Process \(pid) makes threads faster than they can be stopped")
            }
        }
        guard let leader = stopped.firstIndex(where: { $0.tid == pid }) else {
            throw TraceError(.gone, "Process \(pid) has ended")
        }
        stopped.swapAt(0, leader)
        // An execve ends all threads but one without a word to their tracer; only then is one of them not stopped any more.
        let memory = try ProcessMemory(pid: pid)
        for tracee in stopped { try tracee.leaveRestartableSequence(memory) }
    }

    /// Whether there were any.
    private mutating func seizeNewThreads() throws(TraceError) -> Bool {
        let known = Set(stopped.map(\.tid))
        var found = false
        for tid in try ProcFile.threads(of: pid) where !known.contains(tid) {
            do {
                let tracee = try Tracee.seize(tid, options: options)
                waiting.append(tracee)
                try tracee.interrupt()
                found = true
            } catch {
                try accept(error, of: tid)
                // A thread in its last moments is listed for a while: look again, but not for ever.
                found = found || vanished.insert(tid).inserted
            }
        }
        return found
    }

    /// Threads may end at any time; everything else that goes wrong is an error.
    private func accept(_ error: TraceError, of tid: Int32) throws(TraceError) {
        if error.code == .gone && tid != pid { return }
        guard error.code == .notPermitted, try hasEnded(tid) else { throw error }
        guard tid != pid else {
            throw TraceError(.leaderExited, "The first thread of process \(pid) has ended")
        }
    }

    private static let looksAtTheEnd = 20

    /// Whether a thread that must not be attached to is one that ends: it may not show that yet, or not be there any more.
    private func hasEnded(_ tid: Int32) throws(TraceError) -> Bool {
        for _ in 0..<Self.looksAtTheEnd {
            do throws(TraceError) {
                let state = try ProcessStat.read(pid, thread: tid).state
                if state == "Z" || state == "X" { return true }
            } catch {
                guard error.code == .gone else { throw error }
                return true
            }
            usleep(1000)
        }
        return false
    }

    private mutating func collectStops() throws(TraceError) {
        while let tracee = waiting.last {
            if try waitUntilStopped(tracee) { stopped.append(tracee) }
            waiting.removeLast()
        }
    }

    /// False when the thread has ended instead.
    private func waitUntilStopped(_ tracee: Tracee) throws(TraceError) -> Bool {
        do {
            while true {
                switch try tracee.waitForStop(deadline: deadline) {
                case .interrupted, .groupStop: return true
                case .exited, .killed: return false
                case .signal(let signal): try tracee.resume(signal: signal)
                case .systemCall, .event: try tracee.resume()
                }
            }
        } catch {
            guard error.code == .gone else { throw error }
            return false
        }
    }

    mutating func undo() {
        // Those that have stopped meanwhile; a short while for the others.
        let limit = Deadline.after(.milliseconds(200))
        for tracee in waiting {
            _ = try? tracee.waitForStop(deadline: limit)
        }
        for tracee in waiting {
            // What cannot be let go has ended or never stopped; the kernel detaches from it when this thread ends.
            if case .signal(let signal) = tracee.stop { try? tracee.detach(signal: signal) }
        }
        let others = waiting.filter { $0.stop != nil }
        try? TraceeGroup(pid: pid, adopting: stopped + others).thaw()
        stopped.removeAll()
        waiting.removeAll()
    }
}
