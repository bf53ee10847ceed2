// SPDX-License-Identifier: Apache-2.0

/// Development certificates, made once a run by `certs/make-certs`.
public enum Certificates {
    /// Folder with the certificates of a page server and a restorer that trust each other.
    public static func directory() throws -> String {
        try good.get()
    }

    /// Folder with certificates of another authority, which the first one's peers must refuse.
    public static func foreignDirectory() throws -> String {
        try foreign.get()
    }

    private static let good = make("certs")
    private static let foreign = make("foreign-certs")

    private static func make(_ name: String) -> Result<String, any Error> {
        Result {
            let folder = Scratch.run.file(name)
            let script = "\(BuiltProduct.package)/certs/make-certs"
            let arguments = makeCertsArguments(folder)
            let ending = try withProcess(script, arguments, options: .init(output: .null)) { process in
                let ending = try process.waitForExit()
                guard ending == .exited(0) else { throw TestFailure("\(script): \(process.report())") }
                return ending
            }
            guard ending == .exited(0) else { throw TestFailure("\(script): \(ending)") }
            return folder
        }
    }

    private static func makeCertsArguments(_ folder: String) -> [String] {
        [folder]
    }
}
