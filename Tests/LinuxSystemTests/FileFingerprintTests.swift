// SPDX-License-Identifier: Apache-2.0
import LinuxSystem
import Testing

@Suite(.timeLimit(.minutes(5)))
struct FileFingerprintTests {
    /// Vectors of FIPS 180-4 and of the lengths around a block.
    @Test(arguments: [
        ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
    ])
    func digestsAreThoseOfTheStandard(text: String, wanted: String) {
        #expect(hex(SHA256.digest(of: Array(text.utf8))) == wanted)
    }

    @Test
    func aMillionLettersGiveTheDigestOfTheStandardInPiecesOfAnySize() {
        var hash = SHA256()
        let letters = [UInt8](repeating: 0x61, count: 1_000_000)
        var start = 0
        var length = 1
        while start < letters.count {
            let end = min(start + length, letters.count)
            hash.update(letters.span.extracting(start..<end))
            start = end
            length = length % 130 + 1
        }
        #expect(hex(hash.finish()) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    }

    @Test
    func ownProgramHasABuildIDAndATextFileADigest() throws {
        let library = try FileReading.open("/proc/self/exe")
        let head = try FileReading.read(library.rawValue, at: 0, count: ELFFile.headerBytes)
        #expect(!ELFFile.is32Bit(head))
        let text = try FileReading.open("/etc/passwd")
        let fingerprint = try FileFingerprint(descriptor: text.rawValue, digestLimit: 1 << 20)
        #expect(fingerprint.digest.count == 32)
        #expect(fingerprint.buildID.isEmpty)
        #expect(fingerprint.size > 0)
        let short = try FileFingerprint(descriptor: text.rawValue, digestLimit: 1)
        #expect(short.digest.isEmpty)
    }

    @Test
    func buildIDIsFoundBehindOtherNotes() {
        // Two notes: type 1 by GNU with 16 bytes, then type 3 by GNU with 4.
        let first: [UInt8] =
            [4, 0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0x47, 0x4e, 0x55, 0] + [UInt8](repeating: 7, count: 16)
        let second: [UInt8] = [4, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 0x47, 0x4e, 0x55, 0, 0xde, 0xad, 0xbe, 0xef]
        #expect(ELFFile.buildID(notes: first + second) == [0xde, 0xad, 0xbe, 0xef])
        #expect(ELFFile.buildID(notes: first) == nil)
        for length in 0..<(first + second).count {
            #expect(ELFFile.buildID(notes: Array((first + second)[..<length])) == nil)
        }
    }

    @Test
    func headersOfAnyLengthAreReadWithoutATrap() throws {
        let program = try FileReading.open("/proc/self/exe")
        let head = try FileReading.read(program.rawValue, at: 0, count: 4096)
        for length in 0..<1024 { _ = ELFFile.noteRanges(Array(head[..<length])) }
        var broken = head
        for index in 16..<64 {
            broken[index] = 0xff
            _ = ELFFile.noteRanges(broken)
        }
    }

    private func hex(_ bytes: [UInt8]) -> String {
        bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
