// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Logging
internal import Paging
internal import ProcessTrace
internal import Synchronization

/// Puts the memory of a restored process into huge pages again, where the kernel would by itself.
///
/// Pages came one by one, so none of them is huge; the kernel's own thread (khugepaged) looks at 4096 pages each ten seconds, minutes for
/// each GiB. Only blocks whose pages are all there are put together, so that the process does not grow.
final class HugePages: Sendable {
    private static let size: UInt64 = 2 << 20
    /// So many blocks in a row that cannot be put together: the machine has no memory in one piece.
    private static let failuresAtMost = 16

    private let process: ProcessDescriptor
    private let pid: Int32
    private let isOver = Atomic<Bool>(false)
    private let ended: EventDescriptor?
    private let logger: Logger

    /// Begins, on a thread of its own, when every page is there and no userfaultfd is left.
    init(of process: ProcessDescriptor, pid: Int32, logger: Logger) {
        self.process = process
        self.pid = pid
        self.logger = logger
        let ended = try? EventDescriptor()
        self.ended = ended
        guard let ended else { return }
        do throws(SystemCallError) {
            try NamedThread("huge-\(pid)", urgency: .background) { [self] in
                let count = collapseAll()
                logger.debug("Memory is in huge pages", metadata: ["blocks": "\(count)"])
                ended.signal()
            }.detach()
        } catch {
            logger.warning("Memory stays in small pages", metadata: ["reason": "\(error)"])
            ended.signal()
        }
    }

    /// Waits until it is done, or only until it has stopped.
    func finish(atOnce: Bool) {
        if atOnce { isOver.store(true, ordering: .relaxed) }
        _ = try? ended?.wait(until: .after(.seconds(60)))
        isOver.store(true, ordering: .relaxed)
    }

    private func collapseAll() -> Int {
        guard let mappings = try? ProcessMaps.readDetailed(pid), let pagemap = try? Pagemap(pid: pid) else { return 0 }
        let buffer = ScanBuffer(capacity: 2)
        var (count, failures) = (0, 0)
        for mapping in mappings where mapping.isPrivateAndEligible {
            var block = mapping.range.lowerBound.rawValue.roundedUp(to: Self.size)
            while block + Self.size <= mapping.range.upperBound.rawValue {
                defer { block += Self.size }
                guard !isOver.load(ordering: .relaxed) else { return count }
                guard isWhole(block, pagemap, buffer) else { continue }
                do throws(SystemCallError) {
                    try process.collapse(at: block, byteCount: Int(Self.size))
                    (count, failures) = (count + 1, 0)
                } catch {
                    failures += 1
                    guard error.errno != .noSuchProcess, error.errno != .perm, failures < Self.failuresAtMost
                    else {
                        logger.debug("Memory stays in small pages", metadata: ["reason": "\(error)"])
                        return count
                    }
                }
            }
        }
        return count
    }

    /// Whether all pages of a block are there, and small.
    private func isWhole(_ block: UInt64, _ pagemap: Pagemap, _ buffer: ScanBuffer) -> Bool {
        let range = AddressRange(VirtualAddress(block), VirtualAddress(block + Self.size))
        var present: UInt64 = 0
        try? pagemap.scan(range, Self.smallPages, using: buffer) { region in present += region.range.byteCount }
        return present == Self.size
    }

    private static let smallPages = PageQuery(
        all: [.present, .huge, .file, .zero],
        inverted: [.huge, .file, .zero],
        returning: .present
    )
}

extension MapEntry {
    fileprivate var isPrivateAndEligible: Bool {
        guard let details, !isShared else { return false }
        return details.isHugePageEligible && details.anonymous > details.anonymousHuge
    }
}

extension UInt64 {
    fileprivate func roundedUp(to size: UInt64) -> UInt64 {
        (self + size - 1) / size * size
    }
}
