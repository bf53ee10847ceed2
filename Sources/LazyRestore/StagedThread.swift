// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LazyPages
internal import LinuxSystem
internal import PageWire
internal import Paging
internal import Reporting

/// Installs what was pre-copied and is right, in the order of addresses, while the process runs.
///
/// Nothing of it is in the process when the process starts, so the pause does not grow with it; a thread that touches such a page
/// gets it from the thread that answers faults, without the network.
struct StagedThread {
    private let memory: LazyMemory
    private let shared: RestoreShared

    init(memory: LazyMemory, shared: RestoreShared) {
        self.memory = memory
        self.shared = shared
    }

    /// Starts one.
    static func start(_ memory: LazyMemory, _ shared: RestoreShared) throws(SystemCallError) {
        let thread = StagedThread(memory: memory, shared: shared)
        try shared.start("staged") { thread.run() }
    }

    /// Installs until nothing is left or the session stops.
    func run() {
        do {
            guard let staged = memory.with(.stream, { $0.staged }) else { return }
            var position: UInt64 = 0
            while let run = memory.with(.stream, { $0.books.nextLocalRun(from: position, limit: 64) }) {
                let block = run.lowerBound / PageStore.blockPages
                if position > 0, block != (position - 1) / PageStore.blockPages {
                    discard((position - 1) / PageStore.blockPages, of: staged)
                }
                try install(run, from: staged)
                position = run.upperBound
                if try shared.stop.wait(until: .immediate) { return }
            }
            // A fault may still be at work with the last pages.
            memory.with(.stream) { $0.stagedPagesTaken() }
        } catch {
            shared.lost(Loss(of: "bulk", error), of: nil)
        }
    }

    private func install(_ run: Range<UInt64>, from staged: PageStore) throws {
        guard let (buffer, offset) = staged.location(of: run.lowerBound) else {
            preconditionFailure("StagedThread: a page that is named is not here")
        }
        let arrival = Arrival(address: VirtualAddress(run.lowerBound << 12), count: UInt32(run.count), content: .data)
        let first = try memory.deliver(arrival, from: buffer, at: offset, .stream)
        memory.with(.stream) { $0.preCopiedPages += UInt64(first.count) }
    }

    /// Gives back the memory of a block that lies behind; what is left over goes with the store.
    private func discard(_ block: UInt64, of staged: PageStore) {
        if memory.with(.stream, { $0.isDone(withBlock: block) }) { staged.discard(block: block) }
    }
}
