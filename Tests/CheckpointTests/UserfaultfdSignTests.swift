// SPDX-License-Identifier: Apache-2.0
import Paging
import ProcessImage
import ProcessTrace
import TestSupport
import Testing

@testable import Checkpoint

/// What tells of a userfaultfd decides alone: without it the same mapping or descriptor is carried.
@Suite struct UserfaultfdSignTests {
    @Test(arguments: [
        ("um", RefusedObject.foreignUserfaultfd), ("uw", .foreignUserfaultfd), ("ui", .foreignUserfaultfd),
    ])
    func flagOfAMappingDecidesAlone(flag: String, row: RefusedObject) throws {
        let entry = try Self.entry(0x1000..<0x3000)
        #expect(MappingKind(entry, flags: ["rd", "wr", flag, "ac"], file: nil) == .refused(row))
        #expect(MappingKind(entry, flags: ["rd", "wr", "ac"], file: nil) == .carried(.anonymous))
    }

    /// The kinds that no machine of ours can make.
    @Test(arguments: [
        ("ss", RefusedObject.shadowStack), ("ht", .hugePages), ("sl", .sealedMapping), ("dp", .droppableMapping),
    ])
    func otherFlagsThatRefuse(flag: String, row: RefusedObject) throws {
        let entry = try Self.entry(0x1000..<0x3000)
        #expect(MappingKind(entry, flags: ["rd", "wr", flag], file: nil) == .refused(row))
    }

    @Test func nameOfADescriptorDecidesAlone() {
        #expect(DescriptorKind.anonymous("[userfaultfd]") == .refused(.userfaultfd))
        #expect(DescriptorKind.anonymous("[eventfd]") == .eventfd)
    }

    /// So that a sign that is not seen any more lets a live program pass, and its test fail.
    @Test(arguments: [FaultHandlingProgram.Sign.descriptor, .registration, .socket, .device])
    func everySignIsTheOnlyOneOfALiveProgram(sign: FaultHandlingProgram.Sign) {
        #expect(FaultHandlingProgram.all.contains { $0.signs == [sign] })
    }

    // MARK: Ranges of the trial registration

    @Test func rangeEndsBehindTheHighestMapping() throws {
        let mappings = [try Self.entry(0x11000..<0x13000), try Self.entry(0x15000..<0x16000, "[stack]")]
        #expect(Self.ranges(mappings) == [0x11000..<0x17000])
    }

    @Test func kernelMappingsEndARangeAndBeginNone() throws {
        let mappings = [
            try Self.entry(0x11000..<0x12000), try Self.entry(0x12000..<0x13000),
            try Self.entry(0x14000..<0x15000, "[vvar]"),
            try Self.entry(0x15000..<0x16000, "[vvar_vclock]"), try Self.entry(0x16000..<0x18000, "[vdso]"),
            try Self.entry(0x18000..<0x19000), try Self.entry(0x1a000..<0x1b000, "[stack]"),
        ]
        #expect(Self.ranges(mappings) == [0x11000..<0x15000, 0x18000..<0x1c000])
        #expect(Self.ranges(Array(mappings[..<5])) == [0x11000..<0x15000])
    }

    @Test func sharedMappingThatCannotBeWrittenMayHideWhatFollows() throws {
        let mappings = [
            try Self.entry(0x11000..<0x12000), try Self.entry(0x12000..<0x13000, "/a", shared: true, writable: false),
            try Self.entry(0x13000..<0x14000), try Self.entry(0x14000..<0x15000, "/b", shared: true, writable: true),
            try Self.entry(0x15000..<0x16000),
        ]
        #expect(Self.ranges(mappings) == [0x11000..<0x17000, 0x13000..<0x17000])
    }

    @Test func tooManyRangesAreNotTried() throws {
        let many = try (17...616).map {
            try Self.entry($0 * 0x1000..<($0 + 1) * 0x1000, "/a", shared: $0 % 2 == 0, writable: false)
        }
        #expect(Self.ranges(many) == nil)
        #expect(Self.ranges(Array(many[..<500]))?.count == 250)
    }

    @Test func mappingBelowTheLowestAddressIsNotTried() throws {
        #expect(Self.ranges([try Self.entry(0xf000..<0x1_2000)]) == nil)
    }

    private static func ranges(_ mappings: [MapEntry]) -> [Range<UInt64>]? {
        RegistrationTrial.ranges(of: mappings)?.map { $0.lowerBound.rawValue..<$0.upperBound.rawValue }
    }

    /// As the kernel lists it.
    private static func entry(
        _ range: Range<Int>,
        _ name: String = "",
        shared: Bool = false,
        writable: Bool = true
    ) throws -> MapEntry {
        let hexadecimal = [range.lowerBound, range.upperBound].map { String($0, radix: 16) }.joined(separator: "-")
        let line = "\(hexadecimal) r\(writable ? "w" : "-")-\(shared ? "s" : "p") 00000000 00:00 0 \(name)\n"
        return try #require(ProcessMaps.parse(Array(line.utf8), file: "maps").first)
    }
}
