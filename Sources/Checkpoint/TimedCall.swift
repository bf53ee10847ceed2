// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessTrace

/// A call with a relative time-out in memory that is made again as a whole (epoll_pwait2, sigtimedwait, semtimedop).
///
/// It would wait for the whole time again. So the rest of the time stands in place of the time-out until the kernel has read it; all
/// other threads are still held then, and nobody sees it.
struct TimedCall {
    /// Address of the `struct timespec`.
    private let timeout: VirtualAddress
    private let timeLeft: Int64

    /// How often, and after how many microseconds each, a thread is asked whether it sleeps: 20 ms in all.
    private static let patience = 400
    private static let pause: UInt32 = 50

    /// Nil when the time-out is not in memory.
    ///
    /// - Parameter timeLeft: nanoseconds.
    init?(_ call: StoppedCall, timeLeft: Int64) {
        guard case .timespec(let address) = call.timeout(of: call.number) else { return nil }
        timeout = VirtualAddress(address)
        self.timeLeft = timeLeft
    }

    /// Lets the thread, whose registers make the call again, go before all others.
    ///
    /// What goes wrong here is a thread or a mapping that is gone: the thread stays held, and the call starts over or fails by itself.
    func goOn(_ tracee: Tracee, of group: TraceeGroup, in memory: ProcessMemory) {
        let rest = [timeLeft / 1_000_000_000, timeLeft % 1_000_000_000].flatMap { word in
            (0..<8).map { UInt8(truncatingIfNeeded: word >> ($0 * 8)) }
        }
        guard let whole = try? memory.read(timeout, count: rest.count),
            (try? memory.write(rest, to: timeout)) != nil
        else { return }
        // Gone with the process when it cannot be written any more.
        defer { try? memory.write(whole, to: timeout) }
        guard (try? group.detach(tracee)) != nil else { return }
        for _ in 0..<Self.patience {
            guard let stat = try? ProcessStat.read(group.pid, thread: tracee.tid), stat.state != "S" else { return }
            usleep(Self.pause)
        }
    }
}
