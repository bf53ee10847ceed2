// SPDX-License-Identifier: Apache-2.0
import Paging
import ProcessImage
import TestSupport
import Testing

@Suite struct ArchiveTests {
    @Test func everyFieldComesBack() throws {
        let description = Samples.description
        let bytes = try ArchiveEncoder.encode(description)
        #expect(try ArchiveDecoder.decode(ProcessDescription.self, from: bytes) == description)
    }

    /// A field that is forgotten in `visit` comes back as its default: every stored property of the sample differs from it.
    @Test func sampleDiffersFromDefaultInEveryField() {
        for (sample, empty) in Samples.pairs {
            let sampleFields = Mirror(reflecting: sample).children
            let emptyFields = Mirror(reflecting: empty).children
            for (field, other) in zip(sampleFields, emptyFields) where field.label != "version" {
                #expect(
                    String(reflecting: field.value) != String(reflecting: other.value),
                    "\(type(of: sample)).\(field.label ?? "?") is the default in the sample, so the round trip proves nothing"
                )
            }
        }
    }

    @Test func everyTruncationIsAnError() throws {
        let bytes = try ArchiveEncoder.encode(Samples.description)
        for length in 0..<bytes.count {
            #expect(throws: ProcessImageError.self, "length \(length)") {
                try ArchiveDecoder.decode(ProcessDescription.self, from: Array(bytes.prefix(length)))
            }
        }
    }

    @Test func bytesBehindTheEndAreAnError() throws {
        let bytes = try ArchiveEncoder.encode(Samples.description) + [0]
        #expect(throws: ProcessImageError.self) { try ArchiveDecoder.decode(ProcessDescription.self, from: bytes) }
    }

    @Test func anotherVersionIsNamedWithTheRemedy() throws {
        var bytes = try ArchiveEncoder.encode(Samples.description)
        bytes[0] = 99
        let error = #expect(throws: ProcessImageError.self) {
            try ArchiveDecoder.decode(ProcessDescription.self, from: bytes)
        }
        #expect(error?.description.contains("version 99") == true)
        #expect(error?.description.contains("same thaw on both sides") == true)
    }

    @Test func aCountAboveTheInputAllocatesNothing() throws {
        // Version, empty machine up to the architecture's length, which claims 4 GiB.
        let bytes: [UInt8] = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]
        let error = #expect(throws: ProcessImageError.self) {
            try ArchiveDecoder.decode(ProcessDescription.self, from: bytes)
        }
        #expect(error?.description.contains("4294967295 bytes where 0 are left") == true)
    }

    @Test func randomChangesNeverTrap() throws {
        let original = try ArchiveEncoder.encode(Samples.description)
        for seed in UInt64(1)...400 {
            var generator = SeededGenerator(seed: seed)
            var bytes = original
            for _ in 0..<Int.random(in: 1...8, using: &generator) {
                let place = Int.random(in: 0..<bytes.count, using: &generator)
                bytes[place] = UInt8.random(in: 0...255, using: &generator)
            }
            // Either answer is right; a crash is not.
            if let decoded = try? ArchiveDecoder.decode(ProcessDescription.self, from: bytes) {
                #expect(try ArchiveEncoder.encode(decoded) == bytes, "seed \(seed)")
            }
        }
    }

    @Test func integersAreLittleEndian() throws {
        var timer = IntervalTimer()
        timer.value = 0x0102_0304_0506_0708
        timer.period = -2
        #expect(
            try ArchiveEncoder.encode(timer) == [
                0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,  // value
                0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,  // period
            ]
        )
    }

    @Test(arguments: [(UInt64(0x2000), UInt64(0x1000)), (0x1000, 0x1000), (0x1001, 0x2000), (0x1000, 0x2fff)])
    func mappingsThatAreEmptyOrNotAlignedAreRefused(start: UInt64, end: UInt64) throws {
        var mapping = MappingDescription()
        mapping.start = start
        mapping.end = end
        #expect(throws: ProcessImageError.self) { try ArchiveEncoder.encode(mapping) }
    }
}
