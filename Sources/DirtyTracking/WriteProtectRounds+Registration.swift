// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import Userfaultfd

/// What came of an attempt to register a range.
private enum Registration {
    case done
    /// It holds something that cannot be registered, or nothing any more.
    case impossible
    /// It holds something of another userfaultfd.
    case foreign(SystemCallError)
}

/// The members of a span, by what a round does with them; places in ``TrackedMappings/list``.
struct SortedMembers {
    /// All that they hold is new.
    var fresh: Set<Int>
    /// They cannot be registered.
    var others: Set<Int> = []
}

extension WriteProtectRounds {
    /// Registers what is not registered yet.
    ///
    /// What is registered is not registered once more: mremap(2) takes the registration of a mapping away that the moved pages are
    /// merged with, and leaves its marks (Linux 6.18). Writes do not show there any more, so all of it has to be found as new, and it
    /// would look as if nothing had happened if it were registered in between.
    ///
    /// - Throws: ``TrackingError`` with code `refused` when another userfaultfd has one of the mappings.
    func register(_ span: MappingSpan, of mappings: TrackedMappings) throws(TrackingError) -> SortedMembers {
        // Where faults are delivered, moves are as well, and take nothing away.
        let touched = Set(span.members.filter { doubtful.intersects(mappings.list[$0].range) })
        switch arming {
        case .scan:
            let unregistered = try unregisteredMembers(of: span, in: mappings)
            var others: Set<Int> = []
            for index in unregistered where try !registers(mappings.list[index].range) { others.insert(index) }
            try meetOthers(in: span, of: mappings, without: unregistered)
            return SortedMembers(fresh: isNew ? Set(span.members) : unregistered.union(touched), others: others)
        case .ioctl:
            let others = try registerWhole(span, of: mappings)
            return SortedMembers(fresh: isNew ? Set(span.members) : touched, others: others)
        }
    }

    /// Registers the mappings of a span, at one go where that is possible; those that are registered stay so.
    ///
    /// - Returns: Places of mappings that cannot be registered.
    func registerWhole(_ span: MappingSpan, of mappings: TrackedMappings) throws(TrackingError) -> Set<Int> {
        // The kernel looks at all mappings of the range before it changes one. One may be meant that has come between them, which is
        // not tracked.
        if case .done = try register(span.range) { return [] }
        var others: Set<Int> = []
        for index in span.members where try !registers(mappings.list[index].range) { others.insert(index) }
        return others
    }

    /// Somebody else's registration for asynchronous write protection looks like ours, where nothing of ours was.
    private func meetOthers(
        in span: MappingSpan,
        of mappings: TrackedMappings,
        without unregistered: Set<Int>
    ) throws(TrackingError) {
        for index in span.members where !unregistered.contains(index) {
            for part in known.uncovered(mappings.list[index].range) { _ = try registers(part) }
        }
    }

    /// False when the range cannot be registered.
    private func registers(_ range: AddressRange) throws(TrackingError) -> Bool {
        switch try register(range) {
        case .done: return true
        case .impossible: return false
        case .foreign(let error): throw TrackingError.foreign("\(range)", pid: pid, cause: error)
        }
    }

    private func register(_ range: AddressRange) throws(TrackingError) -> Registration {
        do {
            try uffd.register(range, modes: .writeProtect)
            return .done
        } catch {
            switch error.errno {
            case .busy: return .foreign(error)
            case .invalid, .perm: return .impossible
            default:
                // The kernel has no errno of its own for an address space that is gone.
                try checkAlive()
                throw TrackingError.of(error, pid: pid, doing: "track the writes of")
            }
        }
    }

    /// Whether a range that is registered with some userfaultfd is registered with ours.
    ///
    /// Nobody has a range that holds nothing any more, as may happen in a process that runs.
    func owns(_ range: AddressRange) -> Bool {
        switch try? register(range) {
        case .done, .impossible: true
        case .foreign, nil: false
        }
    }

    /// Whether a mapping in one of the ranges, each of which ends with one that cannot be registered, belongs to another userfaultfd.
    ///
    /// - Returns: nil when the kernel does not look at all mappings of a range: without asynchronous write protection the first file
    ///   ends the look.
    func contests(_ ranges: [AddressRange]) -> Bool? {
        guard case .scan = arming else { return nil }
        for range in ranges {
            switch try? register(range) {
            case .done, .impossible: continue
            case .foreign: return true
            case nil: return nil
            }
        }
        return false
    }

    /// Places of mappings that are not registered, with or without data: they are new, or were moved, or stand where another one was.
    private func unregisteredMembers(
        of span: MappingSpan,
        in mappings: TrackedMappings
    ) throws(TrackingError) -> Set<Int> {
        var members: Set<Int> = []
        var index = span.members.lowerBound
        try scan(span.range.pageNumbers, PageQueries.unregistered) { pages, _ in
            while index < span.members.upperBound,
                mappings.list[index].range.pageNumbers.upperBound <= pages.lowerBound
            {
                index += 1
            }
            var last = index
            while last < span.members.upperBound,
                mappings.list[last].range.pageNumbers.lowerBound < pages.upperBound
            {
                members.insert(last)
                last += 1
            }
        }
        return members
    }

    /// Ends all registrations and takes the marks away.
    ///
    /// Closing the userfaultfd would end them all, but leaves the marks of mappings that have lost their registration, and in kernels
    /// before 6.9 all marks. Only what can be registered is ours: kernels before 6.17 end the registrations of anybody.
    func unregisterAll() {
        guard let current = try? readMappings() else { return }
        for span in current.spans where !unregister(span.range) {
            for index in span.members { _ = unregister(current.list[index].range) }
        }
    }

    private func unregister(_ range: AddressRange) -> Bool {
        guard owns(range) else { return false }
        return (try? uffd.unregister(range)) != nil
    }
}
