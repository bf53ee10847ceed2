// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import ProcessTrace

// Signals that were pending. Those of the kernel and of kill(2) (si_code 0 and above) a thread may only queue for itself, and the
// leader for the process.
extension Construction {
    /// Queues signals, in order, from the thread that they are for.
    ///
    /// - Parameter tid: the thread, or nil for the queue of the process.
    func queue(
        _ signals: [SignalInformation],
        of tid: Int32?,
        in arena: StubArena,
        on tracee: Tracee
    ) throws(RestoreError) {
        let queued = signals.filter { $0.number != SIGTRAP }
        try runner.run(over: queued, on: tracee, in: arena, callsPerItem: 1, bytesPerItem: 160) {
            (information: SignalInformation, batch) throws(RestoreError) in
            let bytes = batch.place(information.bytes)
            let call = queueingCall(information, of: tid, at: bytes)
            batch.call(call.number, arguments: call.arguments, for: "queue signal \(information.number)")
        }
    }

    /// Queues SIGTRAPs: breakpoints end batches, so they come one by one, and no batch may come after them.
    func queueTraps(
        _ signals: [SignalInformation],
        of tid: Int32?,
        in arena: StubArena,
        on tracee: Tracee
    ) throws(RestoreError) {
        let traps = signals.filter { $0.number == SIGTRAP }
        guard !traps.isEmpty else { return }
        try RestoreError.trace("block signals") { () throws(TraceError) in try tracee.setSignalMask(.max) }
        for information in traps {
            try runner.write(information.bytes, to: arena.data)
            let call = queueingCall(information, of: tid, at: arena.data)
            try runner.runSingle(call.number, call.arguments, for: "queue SIGTRAP", on: tracee)
        }
    }

    private func queueingCall(
        _ information: SignalInformation,
        of tid: Int32?,
        at address: UInt64
    ) -> (number: Int32, arguments: [UInt64]) {
        let pid = UInt64(description.identity.pid)
        let signal = UInt64(argument: information.number)
        guard let tid else { return (SYS_rt_sigqueueinfo, [pid, signal, address]) }
        return (SYS_rt_tgsigqueueinfo, [pid, UInt64(tid), signal, address])
    }

    /// Sets the action of SIGTRAP, which a batch needs to be the default one.
    func setTrapAction() throws(RestoreError) {
        let action = description.signals.actions[Int(SIGTRAP) - 1]
        guard action != SignalAction() else { return }
        let data = stub.leaderArena.data
        try runner.write(
            [action.handler, action.flags, action.restorer, action.mask].flatMap(\.littleEndianBytes),
            to: data
        )
        try runner.runSingle(
            SYS_rt_sigaction,
            [UInt64(SIGTRAP), data, 0, 8],
            for: "set the action of SIGTRAP",
            on: leader
        )
    }
}
