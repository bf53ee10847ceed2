// SPDX-License-Identifier: Apache-2.0
import TestSupport

/// One run of the built `thaw` to its end.
struct CommandRun {
    let output: String
    let errors: String
    let ending: Ending

    init(_ arguments: [String]) throws {
        let options = TestProcess.Options(environment: ["COLUMNS=80"])
        (output, errors, ending) = try withProcess(BuiltProduct.thaw, arguments, options: options) { process in
            let lines = try process.output?.rest() ?? []
            let ending = try process.waitForExit()
            return (lines.map { $0 + "\n" }.joined(), process.errors, ending)
        }
    }
}
