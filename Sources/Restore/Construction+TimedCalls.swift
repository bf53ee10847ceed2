// SPDX-License-Identifier: Apache-2.0
internal import ProcessImage
internal import ProcessTrace

// Calls with a relative time-out in memory that have to be made again as a whole.
extension Construction {
    /// Lets threads go that make such calls again, one by one.
    ///
    /// - Returns: positions of the threads that are still held.
    func releaseTimedCalls() throws(RestoreError) -> [Int] {
        var held: [Int] = []
        for (index, thread) in description.threads.enumerated() {
            let tracee = tracees[index]
            let isReleased = try RestoreError.trace("let thread \(tracee.tid) go") { () throws(TraceError) in
                guard !description.signals.stopped, let call = Self.timedCall(of: thread) else { return false }
                return try call.goOn(tracee, in: runner.memory) { tracee throws(TraceError) in try tracee.detach() }
            }
            if !isReleased { held.append(index) }
        }
        return held
    }

    private static func timedCall(of thread: ThreadDescription) -> TimedCall? {
        guard let call = thread.interruptedCall, call.continuation == .again else { return nil }
        return TimedCall(call.number, of: StoppedCall(registers: thread.registers), timeLeft: call.timeLeft)
    }
}
