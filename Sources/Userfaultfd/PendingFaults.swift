// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem

/// How many faults of a userfaultfd nobody has read yet, which its descriptor does not tell apart from events.
///
/// `/proc/self/fdinfo` of the descriptor.
public final class PendingFaults: Sendable {
    private let file: HeldDescriptor
    private let name: String

    /// Of a userfaultfd that outlives this.
    public init(of uffd: borrowing Userfaultfd) throws(SystemCallError) {
        name = "/proc/self/fdinfo/\(uffd.descriptor)"
        file = HeldDescriptor(try FileReading.open(name))
    }

    /// How many there are at this moment.
    public func count() throws(SystemCallError) -> Int {
        let bytes = try FileReading.read(file.rawValue, at: 0, count: 512)
        guard let count = Self.number(after: "pending:", in: bytes.span) else {
            throw SystemCallError("pread", .invalid, operand: "\(name) without a number of pending faults")
        }
        return count
    }

    /// The decimal number that follows a word and blanks.
    static func number(after word: StaticString, in bytes: Span<UInt8>) -> Int? {
        let wanted = Array(word.description.utf8)
        guard bytes.count >= wanted.count else { return nil }
        let start = (0...bytes.count - wanted.count).first { start in
            wanted.indices.allSatisfy { bytes[start + $0] == wanted[$0] }
        }
        guard var index = start.map({ $0 + wanted.count }) else { return nil }
        let blanks = [UInt8(ascii: " "), UInt8(ascii: "\t")]
        while index < bytes.count, blanks.contains(bytes[index]) { index += 1 }
        var number: Int?
        while index < bytes.count, bytes[index] >= UInt8(ascii: "0"), bytes[index] <= UInt8(ascii: "9") {
            number = (number ?? 0) &* 10 &+ Int(bytes[index] - UInt8(ascii: "0"))
            index += 1
        }
        return number
    }
}
