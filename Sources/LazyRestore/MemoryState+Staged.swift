// SPDX-License-Identifier: Apache-2.0
internal import FrameTransport
internal import LazyPages
internal import LinuxSystem
internal import PageWire
internal import Paging
internal import Reporting

// Pages that were pre-copied and have turned out to be right.
extension MemoryState {
    /// These pages have not changed since they were pre-copied.
    ///
    /// - Throws: ``LazyPagesError`` when the page map does not name them, ``SessionFailure`` when they never came.
    mutating func preCopyMapArrived(_ runs: [PageRun], isLast: Bool) throws {
        for run in runs {
            let first = run.address.rawValue >> 12
            guard let staged, staged.pages.count(in: first..<first + run.count) == run.count else {
                throw SessionFailure(.peer, "the source calls \(run) pre-copied, but it has not sent them")
            }
        }
        try books.preCopyMapArrived(runs)
        if let journal { for run in runs { journal.note(.preCopyMapArrived(run)) } }
        if isLast {
            hasPreCopyMap = true
            journal?.notePreCopyMapCompleted()
        }
    }

    /// Installs pages for a thread that waits for the first of them.
    mutating func installLocally(_ request: PageRequest) throws(SystemCallError) {
        let page = request.address.rawValue >> 12
        let arrival = Arrival(address: request.address, count: request.count, content: .data)
        guard let (buffer, offset) = staged?.location(of: page), let first = try? books.pagesArrived(arrival) else {
            preconditionFailure("MemoryState: a page that is named is not here")
        }
        preCopiedPages += UInt64(first.count)
        try finish(arrival, from: buffer, at: offset)
        var digest = PageDigest()
        for index in 0..<Int(arrival.count) where first.contains(index) {
            let address = VirtualAddress(pageNumber: page + UInt64(index))
            digest.add(address: address, from: buffer, at: offset + index * PageSize.baseBytes)
        }
        counted(first, at: arrival.address, digest)
    }

    /// Whether nothing is done any more with the pre-copied pages of a block whose pages have all been taken.
    func isDone(withBlock block: UInt64) -> Bool {
        !unfinished.contains { $0.address.rawValue >> 12 / PageStore.blockPages == block }
    }

    /// Every pre-copied page has been taken.
    mutating func stagedPagesTaken() {
        guard unfinished.isEmpty else { return }
        // The descriptor stays what it is: a program that takes over is told of it.
        staged?.discardAll()
        staged = nil
    }

    /// Goes on with installs that the kernel has put off.
    mutating func continueLocally() throws(SystemCallError) {
        let open = unfinished
        unfinished = []
        for arrival in open {
            guard let (buffer, offset) = staged?.location(of: arrival.address.rawValue >> 12) else { continue }
            try finish(arrival, from: buffer, at: offset)
        }
    }

    private mutating func finish(
        _ arrival: Arrival,
        from buffer: TransferBuffer,
        at offset: Int
    ) throws(SystemCallError) {
        while true {
            switch try installSome(of: arrival, from: buffer, at: offset, limit: Int(arrival.count)) {
            case .done: return
            case .more: continue
            case .interrupted: return unfinished.append(arrival)
            }
        }
    }
}
