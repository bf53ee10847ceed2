// SPDX-License-Identifier: Apache-2.0
import Glibc
import Paging
import ProcessTrace
import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct MappingQueryTests {
    @Test func everyMappingIsFoundByAnyAddressBeforeItsEnd() throws {
        let query = try MappingQuery(pid: getpid())
        // The vsyscall page is in the list and in no address space.
        let maps = try ProcessMaps.read(getpid()).filter { $0.name != "[vsyscall]" }
        try #require(query.mapping(from: VirtualAddress(0)) != .unknown, "PROCMAP_QUERY needs Linux 6.11")
        let stable = maps.filter { $0.isExecutable }
        #expect(stable.count > 3)
        for entry in stable {
            #expect(query.mapping(from: entry.range.lowerBound) == .mapping(entry.range))
            let last = VirtualAddress(entry.range.upperBound.rawValue - PageSize.base)
            #expect(query.mapping(from: last) == .mapping(entry.range))
        }
    }

    @Test func behindTheLastThereIsNone() throws {
        let query = try MappingQuery(pid: getpid())
        #expect(query.mapping(from: VirtualAddress(0x7fff_ffff_f000)) == .none)
    }

    @Test func aHoleLeadsToTheNext() throws {
        let query = try MappingQuery(pid: getpid())
        guard case .mapping(let first) = query.mapping(from: VirtualAddress(0)) else {
            Issue.record("no mapping at all")
            return
        }
        #expect(first.lowerBound.rawValue > 0)
    }
}
