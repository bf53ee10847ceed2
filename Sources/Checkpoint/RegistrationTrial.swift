// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import Paging
internal import ProcessTrace

/// Finds out whether memory of a stopped process belongs to a userfaultfd, without walking its page tables as smaps does.
///
/// The process is made to open a userfaultfd, to try to register ranges that have at their end a mapping which cannot be registered,
/// and to close it, all in one batch. The kernel looks at all mappings of a range in order before it alters one
/// (`userfaultfd_register` in fs/userfaultfd.c): a mapping that belongs to another userfaultfd ends the look with EBUSY, else the last
/// one ends it with EINVAL, and nothing has been registered in either case. Write protection without events (WP_ASYNC, Linux 6.7) is
/// what nearly every kind of mapping can be registered for.
///
/// While this program tracks the process, what is tracked is contested to every other userfaultfd: then the tracker's makes the trial,
/// from outside.
struct RegistrationTrial {
    /// What came out.
    enum Outcome: Hashable {
        /// No mapping belongs to another userfaultfd.
        case free
        /// A mapping belongs to another userfaultfd; which one is in smaps.
        case contested
        /// The kernel did not answer.
        case unknown
    }

    /// Who tries.
    private enum Way {
        /// The process itself, in the batch.
        case inside(agreement: CallBatch.Index, registrations: [CallBatch.Index])
        /// The tracker, behind the batch.
        case tracker(TrackerRegistrations)
    }

    private let page: CallBatch.Index
    private let ranges: [AddressRange]
    private let way: Way

    /// Adds the calls to a batch; nil when there is more to try than pays.
    ///
    /// - Parameters:
    ///   - mappings: all of the process, ascending, without `[vsyscall]`.
    ///   - tracker: who has registered mappings already, in this program.
    ///   - batch: of one thread.
    init?(of mappings: [MapEntry], by tracker: TrackerRegistrations?, in batch: inout CallBatch) {
        guard let ranges = Self.ranges(of: mappings), let top = mappings.last?.range.upperBound else { return nil }
        // Where this fails its result is no address, and so munmap below does nothing.
        page = batch.call(
            SYS_mmap,
            .address(top),
            .int(PageSize.base),
            .int(PROT_NONE),
            .int(Self.droppable | MAP_ANONYMOUS | Self.fixedNoReplace),
            .int(-1),
            .int(0)
        )
        self.ranges = ranges
        if let tracker {
            way = .tracker(tracker)
            return
        }
        // User mode only: a descriptor that needs no privilege.
        let uffd = batch.call(SYS_userfaultfd, .int(O_CLOEXEC | O_NONBLOCK | clinux_UFFD_USER_MODE_ONLY))
        let features = batch.data(words: [Self.version, clinux_UFFD_FEATURE_WP_ASYNC, 0])
        let agreement = batch.call(SYS_ioctl, .result(uffd), .int(clinux_UFFDIO_API), .data(features))
        let registrations = ranges.map { range in
            let mode = clinux_UFFDIO_REGISTER_MODE_WP
            let request = batch.data(words: [range.lowerBound.rawValue, range.byteCount, mode, 0])
            return batch.call(SYS_ioctl, .result(uffd), .int(clinux_UFFDIO_REGISTER), .data(request))
        }
        batch.call(SYS_close, .result(uffd))
        batch.call(SYS_munmap, .result(page), .int(PageSize.base))
        way = .inside(agreement: agreement, registrations: registrations)
    }

    /// Bytes of a batch's memory that the calls take at most: 64 for each and for each result that is handed on, and the requests.
    var byteCount: Int { (7 + 2 * ranges.count) * 64 + (1 + ranges.count) * 32 }

    /// What the kernel answered; to be asked once, at once behind the batch.
    ///
    /// - Throws: `TraceError` when the page behind the mappings cannot be taken away.
    func outcome(_ results: BatchResults, of process: StoppedProcess) throws(TraceError) -> Outcome {
        // Before Linux 6.11 there is no such page, and the last range is registered until the descriptor is closed: right as well,
        // as no thread runs meanwhile. In other cases something is in its place, or the range is none.
        let isPageRight = results[page] >= 0 || [-Int64(EINVAL), -Int64(EOPNOTSUPP)].contains(results[page])
        switch way {
        case .inside(let agreement, let registrations):
            guard isPageRight, results[agreement] == 0 else { return .unknown }
            return registrations.contains { results[$0] == -Int64(EBUSY) } ? .contested : .free
        case .tracker(let tracker):
            let isContested = isPageRight ? tracker.areContested(ranges) : nil
            if results[page] >= 0 { try remove(UInt64(results[page]), from: process) }
            guard let isContested else { return .unknown }
            return isContested ? .contested : .free
        }
    }

    private func remove(_ page: UInt64, from process: StoppedProcess) throws(TraceError) {
        let result = try process.injector.call(SYS_munmap, page, PageSize.base, on: process.group.leader)
        guard result == 0 else {
            throw TraceError(.unexpected, "The page of a trial in process \(process.pid) cannot be unmapped: \(result)")
        }
    }

    /// Ranges that together hold all mappings and each end with one that cannot be registered: the vDSO and its data, or the page
    /// behind the highest mapping.
    ///
    /// - Returns: nil when there are too many, or when the kernel would not look at one.
    static func ranges(of mappings: [MapEntry]) -> [AddressRange]? {
        guard let first = mappings.first, let top = mappings.last?.range.upperBound else { return [] }
        // The kernel does not look at a range that begins below vm.mmap_min_addr, where root may have mapped something.
        guard first.range.lowerBound.rawValue >= largestMinimum else { return nil }
        var ranges: [AddressRange] = []
        var end = VirtualAddress(top.rawValue + PageSize.base)
        for (index, mapping) in mappings.enumerated().reversed() {
            guard !isKernel(mapping) else {
                end = mapping.range.upperBound
                continue
            }
            // What ends one range before its end hides what is behind it, so there the next one begins.
            let isFirst = index == 0 || isKernel(mappings[index - 1]) || mayBeReadOnly(mappings[index - 1])
            if isFirst { ranges.append(AddressRange(mapping.range.lowerBound, end)) }
        }
        return ranges.count <= maximumRanges ? ranges.reversed() : nil
    }

    private static func isKernel(_ mapping: MapEntry) -> Bool {
        ["[vdso]", "[vvar]", "[vvar_vclock]"].contains(mapping.name)
    }

    /// Whether the kernel may refuse it with EPERM: it is shared and its file was not opened for writing.
    private static func mayBeReadOnly(_ mapping: MapEntry) -> Bool {
        mapping.isShared && !mapping.isWritable
    }

    private static let maximumRanges = 256
    /// The default of vm.mmap_min_addr in distributions; no larger one is known.
    private static let largestMinimum: UInt64 = 0x1_0000
    /// UFFD_API.
    private static let version: UInt64 = 0xaa
    /// MAP_DROPPABLE: a type of mapping that no userfaultfd takes.
    private static let droppable: Int32 = 8
    /// MAP_FIXED_NOREPLACE.
    private static let fixedNoReplace: Int32 = 0x10_0000
}

extension CallBatch {
    /// Places words as the machine has them.
    fileprivate mutating func data(words: [UInt64]) -> Slot {
        data(words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } })
    }
}
