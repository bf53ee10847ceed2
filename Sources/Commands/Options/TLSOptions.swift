// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import FrameTransport

/// Certificates and keys, the same on both sides.
struct TLSOptions: ParsableArguments {
    @Option(
        name: .customLong("tls-dir"),
        help: ArgumentHelp(
            "Folder with ca-cert.pem and, for the page server, server-cert.pem and server-key.pem, for restore, "
                + "client-cert.pem and client-key.pem.",
            valueName: "dir"
        ),
        completion: .directory
    )
    var directory: String?

    @Option(
        name: .customLong("tls-cacert"),
        help: ArgumentHelp("Certificate of the authority, over the folder's.", valueName: "file"),
        completion: .file()
    )
    var authority: String?

    @Option(
        name: .customLong("tls-cacrl"),
        help: ArgumentHelp("Revocation list of the authority.", valueName: "file"),
        completion: .file()
    )
    var revocations: String?

    @Option(
        name: .customLong("tls-cert"),
        help: ArgumentHelp("Own certificate, over the folder's.", valueName: "file"),
        completion: .file()
    )
    var certificate: String?

    @Option(
        name: .customLong("tls-key"),
        help: ArgumentHelp("Key of the own certificate, over the folder's.", valueName: "file"),
        completion: .file()
    )
    var key: String?

    func validate() throws {
        guard directory == nil else { return }
        let missing = [("--tls-cacert", authority), ("--tls-cert", certificate), ("--tls-key", key)]
            .filter { $0.1 == nil }
            .map(\.0)
        guard missing.isEmpty else {
            throw ValidationError(
                "Certificates are needed: give '--tls-dir', or else also \(missing.joined(separator: ", ")). "
                    + "There is no switch that turns TLS off; certs/make-certs makes a set."
            )
        }
    }

    /// Where the session finds the files.
    var location: TLSLocation {
        var location = TLSLocation(directory: directory)
        location.authority = authority
        location.revocations = revocations
        location.certificate = certificate
        location.key = key
        return location
    }
}
