// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import Paging

/// A call with a relative time-out in memory that is made again as a whole (epoll_pwait2, sigtimedwait, semtimedop).
///
/// It would wait for the whole time again. So the rest of the time stands in place of the time-out until the kernel has read it; all
/// other threads are still held then, and nobody sees it.
public struct TimedCall {
    /// Address of the `struct timespec`.
    private let timeout: VirtualAddress
    /// What the kernel reads before it.
    private let earlier: VirtualAddress?
    /// Nanoseconds.
    private let timeLeft: Int64

    /// How often, and after how many microseconds each, a thread is asked whether it sleeps: 20 ms in all.
    private static let patience = 400
    private static let pause: UInt32 = 50

    /// Nil for any other call, and without a time-out.
    ///
    /// - Parameters:
    ///   - number: which call it is.
    ///   - call: its arguments.
    ///   - timeLeft: nanoseconds; negative without a time-out.
    public init?(_ number: UInt64, of call: StoppedCall, timeLeft: Int64) {
        switch number {
        case StoppedCall.Number.sigtimedwait: earlier = VirtualAddress(call[.rdi])
        case StoppedCall.Number.semtimedop, StoppedCall.Number.epollPwait2: earlier = nil
        default: return nil
        }
        guard timeLeft >= 0, case .timespec(let address) = call.timeout(of: number) else { return nil }
        timeout = VirtualAddress(address)
        self.timeLeft = timeLeft
    }

    /// Lets the thread, whose registers make the call again, go before all others.
    ///
    /// - Parameter detach: lets go of the thread.
    /// - Returns: false when memory that the call reads is not there; the thread is still held then, and its call fails by itself.
    /// - Throws: ``TraceError`` when the thread or its memory is gone.
    public func goOn(
        _ tracee: Tracee,
        in memory: ProcessMemory,
        detach: (Tracee) throws(TraceError) -> Void
    ) throws(TraceError) -> Bool {
        // Made resident, so that the first time that the thread sleeps is in the call itself.
        if let earlier, (try? memory.read(earlier, count: 8)) == nil { return false }
        guard let whole = try? memory.read(timeout, count: 16) else { return false }
        do throws(TraceError) {
            try memory.writeWord(UInt64(timeLeft / 1_000_000_000), to: timeout)
            try memory.writeWord(UInt64(timeLeft % 1_000_000_000), to: VirtualAddress(timeout.rawValue &+ 8))
            try detach(tracee)
        } catch {
            // The first error tells more.
            try? memory.write(whole, to: timeout)
            throw error
        }
        waitUntilAsleep(tracee, of: memory.pid)
        try memory.write(whole, to: timeout)
        return true
    }

    private func waitUntilAsleep(_ tracee: Tracee, of pid: Int32) {
        for _ in 0..<Self.patience {
            guard let stat = try? ProcessStat.read(pid, thread: tracee.tid), stat.state != "S" else { return }
            usleep(Self.pause)
        }
    }
}
