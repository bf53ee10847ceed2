// SPDX-License-Identifier: Apache-2.0

/// Which of the peers that the CA has certified are served.
public struct AllowList: Hashable, Sendable {
    // Bytes, because two strings of Swift are equal when Unicode takes them for equivalent.

    /// Lower-case DNS names without the last dot.
    private let dnsNames: Set<[UInt8]>
    private let uris: Set<[UInt8]>
    private let isOpen: Bool

    /// Serves every peer that the CA has certified.
    public static let anyCertified = AllowList(dnsNames: [], uris: [], isOpen: true)

    private init(dnsNames: Set<[UInt8]>, uris: Set<[UInt8]>, isOpen: Bool) {
        self.dnsNames = dnsNames
        self.uris = uris
        self.isOpen = isOpen
    }

    /// Serves the peers whose certificate carries one of these names in its subjectAltName.
    ///
    /// What has a colon is a URI and is compared byte by byte; anything else is a DNS name, compared without regard to
    /// case. A star in a certificate or here is only a star. The common name of a subject never counts.
    ///
    /// - Parameter names: what `--allow` was given; none at all stands for ``anyCertified``.
    /// - Throws: ``TLSError`` with `badName` for what cannot be a name, such as an empty one.
    public init(_ names: [String]) throws(TLSError) {
        var dnsNames: Set<[UInt8]> = []
        var uris: Set<[UInt8]> = []
        for name in names {
            let bytes = Array(name.utf8)
            guard !bytes.isEmpty, bytes.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
                throw TLSError(
                    .badName,
                    "\"\(PeerIdentity.printable(name))\" is not a name that a certificate can carry",
                    remedy: "Give a DNS name or a URI as it is written in the subjectAltName"
                )
            }
            if bytes.contains(UInt8(ascii: ":")) {
                uris.insert(bytes)
            } else {
                dnsNames.insert(Self.normalised(name))
            }
        }
        self.init(dnsNames: dnsNames, uris: uris, isOpen: names.isEmpty)
    }

    /// Whether a peer is served.
    public func accepts(_ peer: PeerIdentity) -> Bool {
        isOpen
            || peer.dnsNames.contains { dnsNames.contains(Self.normalised($0)) }
            || peer.uris.contains { uris.contains(Array($0.utf8)) }
    }

    private static func normalised(_ name: String) -> [UInt8] {
        let lower = name.utf8.map { (0x41...0x5a).contains($0) ? $0 + 0x20 : $0 }
        return lower.last == UInt8(ascii: ".") ? Array(lower.dropLast()) : lower
    }
}
