// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import ProcessTrace

// Calls with a relative time-out in memory that have to be made again as a whole (epoll_pwait2, sigtimedwait, semtimedop): the rest of
// the time stands in place of the time-out until the kernel has read it. All other threads are still held then, so nobody sees it.
extension Construction {
    /// Lets threads go that make such calls again, one by one.
    ///
    /// - Returns: positions of the threads that are still held.
    func releaseTimedCalls() throws(RestoreError) -> [Int] {
        var held: [Int] = []
        for (index, thread) in description.threads.enumerated() {
            guard !description.signals.stopped, let call = TimedCall(thread), try release(call, tracees[index]) else {
                held.append(index)
                continue
            }
        }
        return held
    }

    /// False when memory that the call reads is not there: then the call fails, or starts over, by itself.
    private func release(_ call: TimedCall, _ tracee: Tracee) throws(RestoreError) -> Bool {
        // What the call reads before the time-out is made resident: the first time that the thread sleeps is in the call itself.
        for address in call.earlier where (try? runner.read(address, count: 8)) == nil { return false }
        guard let whole = try? runner.read(call.timeout, count: 16) else { return false }
        let rest = Self.parts(call.timeLeft, of: 1)
        try runner.write([rest.0, rest.1].flatMap(\.littleEndianBytes), to: call.timeout)
        try RestoreError.trace("let thread \(tracee.tid) go") { () throws(TraceError) in try tracee.detach() }
        for _ in 0..<Self.patience {
            guard let stat = try? ProcessStat.read(spawned.pid, thread: tracee.tid), stat.state != "S" else { break }
            usleep(Self.pause)
        }
        try runner.write(whole, to: call.timeout)
        return true
    }

    /// How often, and after how many microseconds each, a thread is asked whether it sleeps: 20 ms in all.
    private static let patience = 400
    private static let pause: UInt32 = 50
}

/// A call that is made again with the rest of its time-out.
private struct TimedCall {
    /// Address of the `struct timespec`.
    let timeout: UInt64
    /// Addresses that the kernel reads before.
    let earlier: [UInt64]
    let timeLeft: Int64

    init?(_ thread: ThreadDescription) {
        guard let call = thread.interruptedCall, call.continuation == .again, call.timeLeft >= 0,
            thread.registers.count == RegisterIndex.count
        else { return nil }
        let arguments = RegisterIndex.arguments.map { thread.registers[$0] }
        switch Int32(truncatingIfNeeded: call.number) {
        case SYS_rt_sigtimedwait:
            timeout = arguments[2]
            earlier = [arguments[0]]
        case SYS_semtimedop, Kernel.epollWaitNanoseconds:
            timeout = arguments[3]
            earlier = []
        default: return nil
        }
        guard timeout != 0 else { return nil }
        timeLeft = call.timeLeft
    }
}
