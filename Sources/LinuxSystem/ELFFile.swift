// SPDX-License-Identifier: Apache-2.0

/// The little of an ELF file that tells builds apart, elf(5).
///
/// Little-endian files only; anything odd is "none".
public enum ELFFile {
    /// Bytes from the start of a file that hold header and program headers of all but outlandish files.
    public static let headerBytes = 4096

    /// Whether the file begins as an ELF file of 32-bit class.
    public static func is32Bit(_ head: [UInt8]) -> Bool {
        isELF(head) && head[4] == 1
    }

    /// Where the notes of a 64-bit file lie, in bytes from its start, given its first ``headerBytes`` bytes.
    public static func noteRanges(_ head: [UInt8]) -> [Range<UInt64>] {
        guard isELF(head), head[4] == 2, head[5] == 1, head.count >= 64 else { return [] }
        let start = number(head, at: 32, bytes: 8)
        let size = number(head, at: 54, bytes: 2)
        let count = number(head, at: 56, bytes: 2)
        guard size >= 56 else { return [] }
        var ranges: [Range<UInt64>] = []
        for index in 0..<count {
            let (at, overflow) = start.addingReportingOverflow(index * size)
            guard !overflow, at <= UInt64(head.count), UInt64(head.count) - at >= 56 else { break }
            guard number(head, at: Int(at), bytes: 4) == 4 else { continue }
            let offset = number(head, at: Int(at) + 8, bytes: 8)
            let length = number(head, at: Int(at) + 32, bytes: 8)
            let (end, tooFar) = offset.addingReportingOverflow(length)
            if !tooFar && length <= 65536 { ranges.append(offset..<end) }
        }
        return ranges
    }

    /// The build id among notes: the description of a note of type NT_GNU_BUILD_ID by `GNU`.
    public static func buildID(notes: [UInt8]) -> [UInt8]? {
        var at = 0
        while notes.count - at >= 12 {
            let nameSize = Int(number(notes, at: at, bytes: 4))
            let size = Int(number(notes, at: at + 4, bytes: 4))
            let type = number(notes, at: at + 8, bytes: 4)
            let name = at + 12
            let content = name + (nameSize + 3) / 4 * 4
            guard content + size <= notes.count else { return nil }
            if type == 3 && nameSize == 4 && Array(notes[name..<name + 4]) == [0x47, 0x4e, 0x55, 0] {
                return Array(notes[content..<content + size])
            }
            at = content + (size + 3) / 4 * 4
        }
        return nil
    }

    private static func isELF(_ head: [UInt8]) -> Bool {
        head.count >= 16 && head[0] == 0x7f && head[1] == 0x45 && head[2] == 0x4c && head[3] == 0x46
    }

    private static func number(_ bytes: [UInt8], at offset: Int, bytes count: Int) -> UInt64 {
        (0..<count).reduce(0) { $0 | UInt64(bytes[offset + $1]) << (8 * UInt64($1)) }
    }
}
