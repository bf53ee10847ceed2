// SPDX-License-Identifier: Apache-2.0
internal import Paging
internal import ProcessTrace

/// Where the guard pages (MADV_GUARD_INSTALL) of lazy memory are, known under the freeze without a walk of all page tables.
///
/// The process must not run at the destination before they are known, and a walk takes 1.7 ms for each GiB that is present. So memory
/// is walked while the process still runs; under the freeze only what was found then is looked at again, and what was mapped since.
/// A guard that was installed in between, where memory was mapped already, is found by the walk behind the freeze
/// (``PageReader/survey(existing:guards:)``).
struct GuardSearch: Sendable {
    /// What was walked, ascending.
    private var walked: [AddressRange] = []
    /// Guards that were found, ascending.
    private var found: [AddressRange] = []

    /// Guards less than this far apart are looked at in one call: 2 MiB, walked as fast as a call is made.
    private static let reach: UInt64 = 2 << 20

    private static let query = PageQuery(all: [.guardPage], returning: [.guardPage])

    /// Nothing was walked yet: everything is looked at under the freeze.
    init() {}

    /// Walks these ranges of a running process.
    init(walking ranges: [AddressRange], of pid: Int32) throws(TraceError) {
        walked = ranges
        found = try Self.scan(ranges, try Pagemap(pid: pid))
    }

    /// The guards in these ranges, ascending, as far as they were there before or lie in memory that was not walked.
    func confirm(in ranges: [AddressRange], _ pagemap: Pagemap) throws(TraceError) -> [AddressRange] {
        var walked = Ascending(walked)
        var found = Ascending(found)
        var places: [AddressRange] = []
        for range in ranges {
            let fresh = Self.subtract(walked.parts(in: range), from: range)
            for place in (fresh + found.parts(in: range)).sorted(by: { $0.lowerBound < $1.lowerBound }) {
                guard let last = places.last, range.contains(last),
                    last.upperBound.rawValue + Self.reach > place.lowerBound.rawValue
                else {
                    places.append(place)
                    continue
                }
                places[places.count - 1] = AddressRange(last.lowerBound, max(last.upperBound, place.upperBound))
            }
        }
        return try Self.scan(places, pagemap)
    }

    private static func scan(_ ranges: [AddressRange], _ pagemap: Pagemap) throws(TraceError) -> [AddressRange] {
        let buffer = ScanBuffer()
        var guards: [AddressRange] = []
        for range in ranges {
            try pagemap.scan(range, query, using: buffer) { region in
                guard let last = guards.last, last.upperBound == region.range.lowerBound else {
                    guards.append(region.range)
                    return
                }
                guards[guards.count - 1] = AddressRange(last.lowerBound, region.range.upperBound)
            }
        }
        return guards
    }

    /// What is left of `range` without these parts of it, which are ascending.
    private static func subtract(_ others: [AddressRange], from range: AddressRange) -> [AddressRange] {
        var parts: [AddressRange] = []
        var start = range.lowerBound
        for other in others {
            if other.lowerBound > start { parts.append(AddressRange(start, other.lowerBound)) }
            start = other.upperBound
        }
        if start < range.upperBound { parts.append(AddressRange(start, range.upperBound)) }
        return parts
    }

    /// Ascending ranges, for questions that ascend too.
    private struct Ascending {
        private let ranges: [AddressRange]
        private var index = 0

        init(_ ranges: [AddressRange]) {
            self.ranges = ranges
        }

        /// The parts that lie in `range`.
        mutating func parts(in range: AddressRange) -> [AddressRange] {
            while index < ranges.count, ranges[index].upperBound <= range.lowerBound { index += 1 }
            var parts: [AddressRange] = []
            for candidate in ranges[index...] {
                guard let part = candidate.intersection(range) else { break }
                parts.append(part)
            }
            return parts
        }
    }
}
