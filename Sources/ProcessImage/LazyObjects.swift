// SPDX-License-Identifier: Apache-2.0
public import Paging

/// A mapping of a shared object whose pages arrive on first touch.
public struct LazyObjectMapping: Hashable, Sendable {
    /// Its addresses.
    public var range: AddressRange
    /// Which of ``MemoryDescription/sharedObjects``.
    public var object: UInt32
    /// Where in the object it begins, in bytes.
    public var offset: UInt64
}

extension MemoryDescription {
    /// The mappings of shared objects that arrive lazily, ascending by address.
    ///
    /// - Throws: ``ProcessImageError`` when one is called lazy that cannot be.
    public func lazyObjectMappings() throws(ProcessImageError) -> [LazyObjectMapping] {
        guard sharedObjects.contains(where: \.isLazy) else { return [] }
        let candidates = lazyCandidates
        for (index, object) in sharedObjects.enumerated() where object.isLazy {
            guard candidates.contains(UInt32(index)) else {
                throw ProcessImageError("shared memory \(index) that cannot arrive lazily is called lazy")
            }
        }
        return mappings.compactMap { mapping in
            guard mapping.kind == .sharedObject, Int(mapping.object) < sharedObjects.count,
                sharedObjects[Int(mapping.object)].isLazy
            else { return nil }
            return LazyObjectMapping(range: mapping.range, object: mapping.object, offset: mapping.offset)
        }
    }

    /// Objects that could arrive lazily by what is known of their mappings.
    ///
    /// A page must be found by one address only, because that is its name; and the kernel must make whoever misses it wait: it does where
    /// shared mappings are registered with userfaultfd, and not for read(2) or a private mapping, which read zeros.
    public var lazyCandidates: Set<UInt32> {
        var places: [UInt32: [Range<UInt64>]] = [:]
        var excluded: Set<UInt32> = []
        for mapping in mappings where mapping.kind == .sharedObject || mapping.kind == .privateObject {
            let (end, overflow) = mapping.offset.addingReportingOverflow(mapping.range.byteCount)
            let canWait = mapping.kind == .sharedObject && mapping.mayWrite && !mapping.has("lo")
            guard canWait, !overflow, mapping.offset % PageSize.base == 0 else {
                excluded.insert(mapping.object)
                continue
            }
            places[mapping.object, default: []].append(mapping.offset..<end)
        }
        return Set(
            places.compactMap { index, ranges in
                guard !excluded.contains(index), Int(index) < sharedObjects.count, sharedObjects[Int(index)].canBeLazy,
                    Self.areDisjoint(ranges)
                else { return nil }
                return index
            }
        )
    }

    private static func areDisjoint(_ ranges: [Range<UInt64>]) -> Bool {
        let sorted = ranges.sorted { $0.lowerBound < $1.lowerBound }
        return zip(sorted, sorted.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound }
    }
}

extension SharedObject {
    /// Objects that are smaller go ahead: they take less time than a fault.
    public static let smallestLazySize: UInt64 = 64 << 10

    /// F_SEAL_WRITE and F_SEAL_FUTURE_WRITE: nobody may map it for writing once it is sealed.
    public static let writeSeals: UInt32 = 0x18

    /// Whether it could arrive lazily by what it is.
    ///
    /// The end of a page behind the end of an object is seen by its mappings and not by read(2).
    var canBeLazy: Bool {
        size >= Self.smallestLazySize && size % PageSize.base == 0 && seals & Self.writeSeals == 0
    }
}
