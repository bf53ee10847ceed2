// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// On which CPUs a thread runs while faults come one by one, and else.
///
/// With two CPUs both are busy while pages stream, so there is no idle one for whoever is woken. Left alone the threads on the way of a
/// fault settle on different ones. Each step of the way then sends an interrupt to the other CPU, which takes a virtual one some ten
/// microseconds to send and as many to get, and waits there until a call of the stream ends. On one CPU the next thread runs as soon as
/// the one before it sleeps, and the faulting thread stays there if the stream has the other one.
///
/// With more CPUs some may be idle, and threads that look again before they sleep (``Spin``) must not share one. Where faults overlap
/// two CPUs are better than one.
///
/// Of one thread.
public final class ThreadPlacement {
    /// What a thread does there.
    public enum Role: Sendable {
        /// It wakes faulting threads, and is on one CPU with them.
        case waker
        /// It answers requests, on the same CPU.
        case source
        /// It streams, on the other CPU.
        case stream
    }

    private let role: Role
    private let usual: CPUAffinity
    private let oneByOne: CPUAffinity
    private let ownNice: Int32?
    private var isOneByOne = false

    /// For the calling thread.
    ///
    /// - Parameters:
    ///   - usual: where the thread runs else.
    ///   - role: what it does.
    ///   - seed: a number that both sides of a session know: on one machine they choose alike then, and sessions do not all choose the same.
    ///   - spin: how long threads of faults look again before they sleep.
    /// - Returns: nil when the thread should always run wherever the kernel wants it.
    public init?(_ usual: CPUAffinity, _ role: Role, seed: UInt8, spin: Duration) {
        let cpus = usual.cpus
        guard cpus.count == 2, spin == .zero else { return nil }
        let ofFaults = Int(seed) % 2
        self.role = role
        self.usual = usual
        ownNice = try? SchedulingAttributes().nice
        oneByOne = CPUAffinity(cpu: cpus[role == .stream ? 1 - ofFaults : ofFaults])
    }

    /// Moves the calling thread when that has changed.
    ///
    /// The corresponding call is `sched_setaffinity`; where it is not allowed the thread is slower or in the way, no more.
    public func follow(_ pace: FaultPace) {
        let isOneByOne = pace.isOneByOne(at: MonotonicTime.now.nanoseconds)
        guard isOneByOne != self.isOneByOne else { return }
        self.isOneByOne = isOneByOne
        try? (isOneByOne ? oneByOne : usual).apply()
        if role == .waker { try? setNice(isOneByOne ? Self.niceOfProcess : ownNice) }
    }

    /// Where no stream is the waker does not need a low nice value, which keeps faulting threads away.
    ///
    /// The kernel leaves a thread that is woken on the CPU where it was unless there is less to do on that of its waker, and a waker with
    /// that value counts as three.
    private func setNice(_ nice: Int32?) throws(SystemCallError) {
        var attributes = try SchedulingAttributes()
        guard attributes.policy == .other, let nice, nice != attributes.nice else { return }
        attributes.nice = nice
        try attributes.apply()
    }

    /// That of the first thread, which nobody has raised.
    private static var niceOfProcess: Int32? { try? SchedulingAttributes(thread: getpid()).nice }
}
