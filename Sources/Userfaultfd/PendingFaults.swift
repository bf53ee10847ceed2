// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem

/// How many faults of a userfaultfd nobody has read yet, which its descriptor does not tell apart from events.
///
/// `/proc/self/fdinfo` of the descriptor. Nothing is allocated to count.
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
        var text = InlineArray<512, UInt8>(repeating: 0)
        var bytes = text.mutableSpan
        let length = try FileReading.readOnce(file.rawValue, at: 0, into: &bytes)
        guard let count = Self.number(in: text.span.extracting(0..<length)) else {
            throw SystemCallError("pread", .invalid, operand: "\(name) without a number of pending faults")
        }
        return count
    }

    /// The decimal number that follows "pending:" and blanks.
    static func number(in bytes: Span<UInt8>) -> Int? {
        guard var index = end(ofWordIn: bytes) else { return nil }
        while index < bytes.count, bytes[index] == UInt8(ascii: " ") || bytes[index] == UInt8(ascii: "\t") {
            index += 1
        }
        var number: Int?
        while index < bytes.count, bytes[index] >= UInt8(ascii: "0"), bytes[index] <= UInt8(ascii: "9") {
            number = (number ?? 0) &* 10 &+ Int(bytes[index] - UInt8(ascii: "0"))
            index += 1
        }
        return number
    }

    private static func end(ofWordIn bytes: Span<UInt8>) -> Int? {
        let word: InlineArray<8, UInt8> = [
            UInt8(ascii: "p"), UInt8(ascii: "e"), UInt8(ascii: "n"), UInt8(ascii: "d"),
            UInt8(ascii: "i"), UInt8(ascii: "n"), UInt8(ascii: "g"), UInt8(ascii: ":"),
        ]
        var matching = 0
        for index in bytes.indices {
            // Its first letter is in it once.
            if bytes[index] != word[matching] { matching = 0 }
            guard bytes[index] == word[matching] else { continue }
            matching += 1
            if matching == word.count { return index + 1 }
        }
        return nil
    }
}
