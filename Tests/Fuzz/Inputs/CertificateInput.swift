// SPDX-License-Identifier: Apache-2.0
internal import TLSSession

/// What stands in the files of a certificate folder, and in `--allow`.
func checkCertificates(_ choice: UInt8, _ bytes: [UInt8]) {
    switch choice % 4 {
    case 0: ((try? PEMContents.certificates(bytes)) ?? []).forEach(checkIdentity)
    case 1: _ = try? PEMContents.countRevocations(bytes)
    case 2: try? PEMContents.checkPrivateKey(bytes)
    default: checkNames(String(decoding: bytes, as: UTF8.self))
    }
}

/// Whatever a certificate carries can be shown to people, and each of its names opens for it alone.
private func checkIdentity(_ peer: PeerIdentity) {
    precondition(peer.description.utf8.allSatisfy { $0 >= 0x20 && $0 < 0x7f }, "a name that cannot be shown")
    for name in peer.dnsNames + peer.uris {
        guard let list = try? AllowList([name]) else { continue }
        // What has a colon is looked for among the URIs; strings are equal when Unicode takes them for equivalent.
        let isURI = name.utf8.contains(UInt8(ascii: ":"))
        let isThere = (isURI ? peer.uris : peer.dnsNames).contains { Array($0.utf8) == Array(name.utf8) }
        precondition(list.accepts(peer) || !isThere, "its own name is refused")
    }
    precondition(AllowList.anyCertified.accepts(peer), "a peer is refused without a list")
}

/// Names of a list, a line each: a peer that carries one of them is served, one that carries another is not.
private func checkNames(_ text: String) {
    let names = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    guard let list = try? AllowList(names) else { return }
    for name in names {
        let isURI = name.utf8.contains(UInt8(ascii: ":"))
        let peer = isURI ? PeerIdentity(dnsNames: [], uris: [name]) : PeerIdentity(dnsNames: [name])
        precondition(list.accepts(peer), "a name of the list is refused")
    }
    precondition(!list.accepts(PeerIdentity(dnsNames: [], uris: [], commonName: names[0])), "a common name counts")
}
