// SPDX-License-Identifier: Apache-2.0
import Checkpoint
import LinuxSystem
import Paging
import ProcessImage
import ProcessTrace

/// A frozen process with everything that a copy of it needs.
final class FrozenSource {
    let frozen: FrozenProcess
    let memory: ProcessMemory
    private(set) var eager: [EagerPages] = []
    private(set) var guards: [AddressRange] = []
    private var isOver = false

    /// Freezes and describes a process.
    ///
    /// - Parameter allEager: every page goes ahead, so that the original is not needed any more.
    init(pid: Int32, allEager: Bool = false) throws {
        memory = try ProcessMemory(pid: pid)
        // Nobody here serves shared memory; lazy restores do, and have tests of their own.
        frozen = try FrozenProcess.freeze(
            try Examination.examine(pid: pid),
            timeout: .seconds(20),
            sharedMemoryAhead: true
        )
        while let pages = try frozen.nextEagerPages() { eager.append(pages) }
        let reader = frozen.pageSource.makeReader()
        var ranges: [AddressRange] = []
        try reader.survey(existing: { ranges.append($0) }, guards: { guards.append($0) })
        guard allEager else { return }
        for range in ranges {
            var pages = EagerPages()
            pages.address = range.lowerBound.rawValue
            pages.bytes = try memory.read(range.lowerBound, count: Int(range.byteCount))
            eager.append(pages)
        }
    }

    var description: ProcessDescription { frozen.description }

    /// Ends the original.
    func kill() {
        guard !isOver else { return }
        isOver = true
        try? frozen.kill()
    }
}
