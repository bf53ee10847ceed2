// SPDX-License-Identifier: Apache-2.0
import FuzzInputs
import TestSupport
import Testing

/// What the fuzzer has found, replayed: inputs that once trapped, and those that reach the most code.
@Suite(.serialized, .timeLimit(.minutes(10))) struct CorpusTests {
    /// About how many places of one input are tried.
    private static let places = 300

    @Test(arguments: FuzzInput.allCases) func theCorpusIsTaken(input: FuzzInput) throws {
        let folder = "\(BuiltProduct.package)/Tests/Fuzz/Corpus/\(input.rawValue)"
        let names = try namesInFolder(folder)
        #expect(names.count >= 3)
        for name in names {
            let bytes = try readBytes("\(folder)/\(name)")
            input.check(bytes)
            // Cut off anywhere, and with any byte changed: at other places each time where there are many.
            let step = max(1, bytes.count / Self.places)
            let places = stride(from: Int.random(in: 0..<step), to: bytes.count, by: step)
            for length in places { input.check(Array(bytes[..<length])) }
            for index in places {
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
