// SPDX-License-Identifier: Apache-2.0
import FuzzInputs
import TestSupport
import Testing

/// What the fuzzer has found, replayed: inputs that once trapped, and those that reach the most code.
@Suite(.serialized, .timeLimit(.minutes(1))) struct CorpusTests {
    @Test(arguments: FuzzInput.allCases) func theCorpusIsTaken(input: FuzzInput) throws {
        let folder = "\(BuiltProduct.package)/Tests/Fuzz/Corpus/\(input.rawValue)"
        let names = try namesInFolder(folder)
        #expect(names.count >= 3)
        for name in names {
            let bytes = try readBytes("\(folder)/\(name)")
            input.check(bytes)
            // Cut off anywhere, and with any byte changed.
            for length in 0..<min(bytes.count, 2000) { input.check(Array(bytes[..<length])) }
            for index in 0..<min(bytes.count, 2000) {
                var changed = bytes
                changed[index] ^= UInt8(truncatingIfNeeded: 1 << (index & 7))
                input.check(changed)
            }
        }
    }

    /// A check that demands something traps where it does not hold.
    @Test func aTrapIsSeen() async {
        await #expect(processExitsWith: .failure) {
            precondition(FuzzInput.allCases.isEmpty, "as in a check")
        }
    }
}
