// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import ProcessTrace

/// Sees to it that nobody waits for ever for a process that somebody has killed while it is built: a service that has lost its source,
/// the kernel for want of memory, an operator.
///
/// The thread that builds waits for one thread at a time, mostly the leader, whose end is not told before the others' have been
/// taken (``DeadThreads``).
final class Undertaker: Sendable {
    /// How often it looks.
    private static let interval = Duration.milliseconds(50)

    private let over: EventDescriptor

    /// Begins to look after a process, on a thread of its own.
    init(_ pid: Int32) throws(SystemCallError) {
        let over = try EventDescriptor()
        self.over = over
        try NamedThread("undertaker") {
            while (try? over.wait(until: .after(Self.interval))) == false {
                if let stat = try? ProcessStat.read(pid), stat.state == "Z" { DeadThreads.take(of: pid) }
            }
        }.detach()
    }

    deinit {
        end()
    }

    /// The process belongs to itself, or is no more.
    func end() {
        over.signal()
    }
}
