// SPDX-License-Identifier: Apache-2.0

/// Good certificates and every kind of bad ones, made once a run by `certs/make-bad-certs`, where they are described.
public enum BadCertificates {
    /// The folder, itself a good `--tls-dir`.
    public static func directory() throws -> String {
        try made.get()
    }

    private static let made: Result<String, any Error> = Result {
        let folder = Scratch.run.file("bad-certs")
        let script = "\(BuiltProduct.package)/certs/make-bad-certs"
        return try withProcess(script, [folder], options: .init(output: .null)) { process in
            guard try process.waitForExit() == .exited(0) else { throw TestFailure("\(script): \(process.report())") }
            return folder
        }
    }
}
