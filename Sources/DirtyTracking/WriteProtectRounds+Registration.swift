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

extension WriteProtectRounds {
    /// Registers the mappings of a span, at one go where that is possible; those that are registered stay so.
    ///
    /// - Returns: Places of mappings that cannot be registered.
    /// - Throws: ``TrackingError`` with code `refused` when another userfaultfd has one of them.
    func register(_ span: MappingSpan, of mappings: TrackedMappings) throws(TrackingError) -> [Int] {
        // The kernel looks at all mappings of the range before it changes one.
        if case .done = try register(span.range) { return [] }
        // One may be meant that has come between them, which is not tracked.
        var others: [Int] = []
        for index in span.members {
            let range = mappings.list[index].range
            switch try register(range) {
            case .done: break
            case .impossible: others.append(index)
            case .foreign(let error): throw TrackingError.foreign("\(range)", pid: pid, cause: error)
            }
        }
        return others
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

    /// Places of mappings with data that are new, or were moved, or stand where another one was.
    func newMembers(of span: MappingSpan, in mappings: TrackedMappings) throws(TrackingError) -> Set<Int> {
        switch arming {
        case .scan: try unregisteredMembers(of: span, in: mappings)
        case .ioctl:
            moved.isEmpty ? [] : Set(span.members.filter { moved.intersects(mappings.list[$0].range) })
        }
    }

    private func unregisteredMembers(
        of span: MappingSpan,
        in mappings: TrackedMappings
    ) throws(TrackingError) -> Set<Int> {
        var members: Set<Int> = []
        var index = span.members.lowerBound
        try scan(span.range.pageNumbers, queries.unregisteredData(span.content)) { pages, _ in
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

    /// Ends all registrations, as far as the mappings of the last round go; closing the userfaultfd ends them all.
    ///
    /// Kernels before 6.9 leave the marks of armed pages behind when it is only closed.
    func unregisterAll() {
        guard let current = try? readMappings() else { return }
        for span in current.spans {
            if (try? uffd.unregister(span.range)) != nil { continue }
            for index in span.members { try? uffd.unregister(current.list[index].range) }
        }
    }
}
