// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
public import LinuxSystem

/// One traced thread of another process.
///
/// The kernel accepts every call from the thread only that has seized it; the class is not `Sendable` for that reason.
public final class Tracee {
    /// Id of the thread as this program sees it.
    public let tid: Int32
    /// The last stop that was seen, nil while the thread runs.
    public private(set) var stop: Stop?

    private init(tid: Int32) {
        self.tid = tid
    }

    /// Attaches to a thread without stopping it.
    ///
    /// The corresponding request is PTRACE_SEIZE, with PTRACE_O_TRACESYSGOOD besides `options`.
    /// - Throws: ``TraceError`` with code `gone`, `notPermitted` or `alreadyTraced`.
    public static func seize(_ tid: Int32, options: TraceOptions = []) throws(TraceError) -> Tracee {
        let result = clinux_ptrace_seize(tid, clinux_PTRACE_O_TRACESYSGOOD | options.rawValue)
        if result == -EPERM, let status = try? ProcessStatus.read(tid), status.tracer != 0 {
            throw TraceError(.alreadyTraced, "Thread \(tid) is traced by process \(status.tracer) already")
        }
        try TraceError.check("PTRACE_SEIZE", result, "Cannot attach to thread \(tid)")
        return Tracee(tid: tid)
    }

    /// Takes a thread that the kernel attached by itself (``TraceOptions/traceClone``) and waits for its first stop.
    public static func adopt(_ tid: Int32) throws(TraceError) -> Tracee {
        let tracee = Tracee(tid: tid)
        try tracee.waitForStop()
        return tracee
    }

    /// Asks a running thread to stop; the corresponding request is PTRACE_INTERRUPT.
    public func interrupt() throws(TraceError) {
        try TraceError.check("PTRACE_INTERRUPT", clinux_ptrace_interrupt(tid), "Cannot stop thread \(tid)")
    }

    // MARK: Waiting

    /// Waits without a limit for the next stop or the end of the thread.
    @discardableResult
    public func waitForStop() throws(TraceError) -> Stop {
        var status: Int32 = 0
        // SAFETY: the kernel writes one word.
        let result = unsafe clinux_wait(tid, &status, 0)
        try TraceError.check("waitpid", result, "Cannot wait for thread \(tid)")
        let stop = Stop(waitStatus: status)
        self.stop = stop
        return stop
    }

    /// The next stop or the end of the thread if it has happened, without waiting.
    public func pollStop() throws(TraceError) -> Stop? {
        var status: Int32 = 0
        // SAFETY: the kernel writes one word.
        let result = unsafe clinux_wait(tid, &status, WNOHANG)
        try TraceError.check("waitpid", result, "Cannot wait for thread \(tid)")
        guard result > 0 else { return nil }
        let stop = Stop(waitStatus: status)
        self.stop = stop
        return stop
    }

    /// Waits until a deadline for the next stop or the end of the thread.
    ///
    /// - Throws: ``TraceError`` with code `timedOut`; the thread is still attached then.
    @discardableResult
    public func waitForStop(deadline: Deadline) throws(TraceError) -> Stop {
        var pause = Backoff()
        while true {
            if let stop = try pollStop() { return stop }
            guard !deadline.hasPassed else {
                throw TraceError(.timedOut, "Thread \(tid) did not stop in time")
            }
            pause.wait()
        }
    }

    // MARK: Going on

    /// Lets the thread run, with a signal if it stands before the delivery of one.
    ///
    /// From the exit stop of an injected call this goes over a fresh stop, because PTRACE_CONT would show the restart code of
    /// an interrupted call (errno 516) to the program.
    public func resume(signal: Int32 = 0) throws(TraceError) {
        if stop == .systemCall { try settle() }
        try resumeDirectly(signal: signal)
    }

    /// Lets the thread run to the next entry to or exit from a system call, PTRACE_SYSCALL.
    public func resumeToSystemCall(signal: Int32 = 0) throws(TraceError) {
        try TraceError.check("PTRACE_SYSCALL", clinux_ptrace_syscall(tid, signal), "Cannot resume thread \(tid)")
        stop = nil
    }

    /// PTRACE_CONT as it is; for a thread whose registers stand at code of ours.
    func resumeDirectly(signal: Int32 = 0) throws(TraceError) {
        try TraceError.check("PTRACE_CONT", clinux_ptrace_cont(tid, signal), "Cannot resume thread \(tid)")
        stop = nil
    }

    /// Moves a stopped thread to a stop of the kind in which the kernel restarts interrupted calls.
    private func settle() throws(TraceError) {
        try interrupt()
        try resumeDirectly()
        while true {
            switch try waitForStop() {
            case .interrupted, .groupStop, .exited, .killed: return
            case .signal(let signal): try resumeDirectly(signal: signal)
            case .systemCall, .event: try resumeDirectly()
            }
        }
    }

    /// Lets the thread go for good; a process that was stopped by a signal stays stopped.
    ///
    /// A thread that has ended meanwhile is no error. The corresponding request is PTRACE_DETACH.
    public func detach(signal: Int32 = 0) throws(TraceError) {
        _ = try detachUnlessEnded(signal: signal)
    }

    /// Lets the thread go for good as ``detach(signal:)`` does.
    ///
    /// - Returns: False when the thread has been killed meanwhile; its end has to be waited for (``waitForEnd(deadline:)``), or
    ///   nobody sees the end of the process.
    public func detachUnlessEnded(signal: Int32 = 0) throws(TraceError) -> Bool {
        let result = clinux_ptrace_detach(tid, signal)
        stop = nil
        guard result != -ESRCH else { return false }
        try TraceError.check("PTRACE_DETACH", result, "Cannot detach from thread \(tid)")
        return true
    }

    /// Waits until a thread that was killed has ended.
    ///
    /// The status of a process that is a child of this program is left for whoever waits for it.
    public func waitForEnd(deadline: Deadline) throws(TraceError) {
        var pause = Backoff()
        do throws(TraceError) {
            let isOurChild = try isChildProcess()
            while try !hasEnded(leavingStatus: isOurChild) {
                guard !deadline.hasPassed else { throw TraceError(.timedOut, "Thread \(tid) did not end in time") }
                pause.wait()
            }
        } catch {
            // Somebody else has taken the status, or an execve has ended the thread silently.
            guard error.code == .gone else { throw error }
        }
    }

    /// Whether this is the leader of a process that this program has made.
    private func isChildProcess() throws(TraceError) -> Bool {
        let status = try ProcessStatus.read(tid)
        return status.tgid == tid && status.parent == getpid()
    }

    private func hasEnded(leavingStatus: Bool) throws(TraceError) -> Bool {
        guard leavingStatus else { return try !(pollStop()?.isStopped ?? true) }
        let result = clinux_wait_peek(tid)
        return try TraceError.check("waitid", result, "Cannot wait for process \(tid)") == 1
    }

    // MARK: Registers

    /// The general registers.
    public func registers() throws(TraceError) -> Registers {
        var raw = clinux_registers()
        // SAFETY: the kernel fills the struct.
        let result = unsafe clinux_ptrace_getregs(tid, &raw)
        try TraceError.check("PTRACE_GETREGS", result, "Cannot read the registers of thread \(tid)")
        return Registers(raw)
    }

    /// Sets the general registers.
    public func setRegisters(_ registers: Registers) throws(TraceError) {
        var raw = registers.raw
        // SAFETY: the kernel reads the struct.
        let result = unsafe clinux_ptrace_setregs(tid, &raw)
        try TraceError.check("PTRACE_SETREGS", result, "Cannot set the registers of thread \(tid)")
    }

    /// The whole XSAVE area.
    public func extendedState() throws(TraceError) -> [UInt8] {
        // Enough for AVX-512; AMX takes 11 KiB. What does not fit the kernel leaves out.
        for room in [4 << 10, 64 << 10] {
            var result: Int32 = -EINVAL
            let bytes = unsafe [UInt8](unsafeUninitializedCapacity: room) { buffer, initialised in
                guard let start = buffer.baseAddress else { return }
                var count = room
                // SAFETY: the kernel fills at most `count` bytes of the array's own storage and says how many.
                result = unsafe clinux_ptrace_getregset(tid, clinux_NT_X86_XSTATE, start, &count)
                initialised = result < 0 ? 0 : count
            }
            try TraceError.check("PTRACE_GETREGSET", result, "Cannot read the extended registers of thread \(tid)")
            if bytes.count < room { return bytes }
        }
        throw TraceError(.unexpected, "Thread \(tid) has more than 64 KiB of extended registers")
    }

    /// Sets the whole XSAVE area.
    ///
    /// - Throws: ``TraceError`` with EINVAL when the CPU lacks a feature that the area uses.
    public func setExtendedState(_ bytes: [UInt8]) throws(TraceError) {
        // SAFETY: the kernel reads the array's own storage during the closure.
        let result = unsafe bytes.withUnsafeBytes { buffer -> Int32 in
            guard let start = buffer.baseAddress else { return -EINVAL }
            return unsafe clinux_ptrace_setregset(tid, clinux_NT_X86_XSTATE, start, buffer.count)
        }
        try TraceError.check("PTRACE_SETREGSET", result, "Cannot set the extended registers of thread \(tid)")
    }

    // MARK: Signals

    /// The blocked signals, bit 0 is signal 1.
    ///
    /// Inside of a call with a mask of its own (ppoll, pselect, epoll_pwait, sigsuspend) it is the mask outside of the call.
    public func signalMask() throws(TraceError) -> UInt64 {
        var mask: UInt64 = 0
        // SAFETY: the kernel writes 8 bytes.
        let result = unsafe clinux_ptrace_getsigmask(tid, &mask)
        try TraceError.check("PTRACE_GETSIGMASK", result, "Cannot read the signal mask of thread \(tid)")
        return mask
    }

    /// Sets the blocked signals; SIGKILL and SIGSTOP cannot be blocked.
    public func setSignalMask(_ mask: UInt64) throws(TraceError) {
        let result = clinux_ptrace_setsigmask(tid, mask)
        try TraceError.check("PTRACE_SETSIGMASK", result, "Cannot set the signal mask of thread \(tid)")
    }

    /// The queued signals of the thread or of its process: `siginfo_t` of 128 bytes each, in order.
    public func pendingSignals(shared: Bool) throws(TraceError) -> [[UInt8]] {
        var signals: [[UInt8]] = []
        while true {
            var chunk = [UInt8](repeating: 0, count: 32 * Self.siginfoBytes)
            // SAFETY: the kernel fills at most 32 siginfos of the array's own storage during the closure.
            let result = unsafe chunk.withUnsafeMutableBytes { buffer -> Int32 in
                guard let start = buffer.baseAddress else { return -EINVAL }
                return unsafe clinux_ptrace_peeksiginfo(tid, UInt64(signals.count), shared ? 1 : 0, 32, start)
            }
            let count = try Int(
                TraceError.check("PTRACE_PEEKSIGINFO", result, "Cannot read the signals of thread \(tid)")
            )
            guard count > 0 else { return signals }
            for index in 0..<count {
                signals.append(Array(chunk[index * Self.siginfoBytes..<(index + 1) * Self.siginfoBytes]))
            }
        }
    }

    /// The `siginfo_t` (128 bytes) of the signal before whose delivery the thread stands.
    public func signalInformation() throws(TraceError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Self.siginfoBytes)
        // SAFETY: the kernel fills 128 bytes of the array's own storage during the closure.
        let result = unsafe bytes.withUnsafeMutableBytes { buffer -> Int32 in
            guard let start = buffer.baseAddress else { return -EINVAL }
            return unsafe clinux_ptrace_getsiginfo(tid, start)
        }
        try TraceError.check("PTRACE_GETSIGINFO", result, "Cannot read the signal of thread \(tid)")
        return bytes
    }

    /// Bytes in a `siginfo_t`.
    public static let siginfoBytes = 128

    // MARK: The rest

    /// The message of an event stop: the id of a new thread for PTRACE_EVENT_CLONE.
    public func eventMessage() throws(TraceError) -> UInt64 {
        var message: UInt64 = 0
        // SAFETY: the kernel writes one word.
        let result = unsafe clinux_ptrace_geteventmsg(tid, &message)
        try TraceError.check("PTRACE_GETEVENTMSG", result, "Cannot read the event of thread \(tid)")
        return message
    }

    /// Where the thread has registered rseq(2), nil when it has not.
    public func rseqConfiguration() throws(TraceError) -> RseqConfiguration? {
        var raw = clinux_rseq_configuration()
        // SAFETY: the kernel fills the struct.
        let result = unsafe clinux_ptrace_rseq_configuration(tid, &raw)
        try TraceError.check("PTRACE_GET_RSEQ_CONFIGURATION", result, "Cannot read the rseq of thread \(tid)")
        guard raw.address != 0 else { return nil }
        return RseqConfiguration(address: raw.address, size: raw.size, signature: raw.signature)
    }

    /// Whether the thread's system calls are dispatched to user code (PR_SET_SYSCALL_USER_DISPATCH), which injected calls would
    /// be as well; false where the kernel cannot tell (before Linux 6.4).
    public func dispatchesSystemCalls() throws(TraceError) -> Bool {
        var mode: UInt64 = 0
        // SAFETY: the kernel writes one word.
        let result = unsafe clinux_ptrace_syscall_user_dispatch(tid, &mode)
        guard result != -EIO, result != -EINVAL else { return false }
        try TraceError.check("PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG", result, "Cannot read thread \(tid)")
        return mode != 0
    }
}

/// Thread state of rseq(2).
public struct RseqConfiguration: Hashable, Sendable {
    /// Address of `struct rseq`.
    public var address: UInt64
    /// Its registered size in bytes.
    public var size: UInt32
    /// The signature before abort handlers.
    public var signature: UInt32
}

/// Waits of a polling loop: gives the CPU away at first, then sleeps, longer each time.
struct Backoff {
    private var turn = 0

    /// Longest sleep.
    private static let limit = 1_000_000

    mutating func wait() {
        turn += 1
        guard turn > 20 else {
            sched_yield()
            return
        }
        var time = timespec(tv_sec: 0, tv_nsec: min(Self.limit, 20_000 << min(turn - 20, 6)))
        // SAFETY: the kernel reads one timespec.
        unsafe nanosleep(&time, nil)
    }
}
