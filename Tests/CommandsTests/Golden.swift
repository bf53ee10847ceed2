// SPDX-License-Identifier: Apache-2.0
import Glibc
import TestSupport
import Testing

/// Texts recorded in the folder `Golden`.
enum Golden {
    /// Expects `text` to be what is recorded under `name`; with `THAW_RECORD_GOLDEN` in the environment it is recorded first.
    static func expect(_ text: String, _ name: String, location: SourceLocation = #_sourceLocation) throws {
        let path = "\(BuiltProduct.package)/Tests/CommandsTests/Golden/\(name).txt"
        // SAFETY: nothing changes the environment of a test run.
        if unsafe getenv("THAW_RECORD_GOLDEN") != nil { try writeFile(path, text) }
        let recorded = try readText(path)
        #expect(
            text == recorded,
            "run the tests with THAW_RECORD_GOLDEN=1 to accept the change",
            sourceLocation: location
        )
    }
}
