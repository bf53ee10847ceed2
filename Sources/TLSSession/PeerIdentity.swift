// SPDX-License-Identifier: Apache-2.0
internal import COpenSSL

/// Who the other side is, by its certificate.
public struct PeerIdentity: Hashable, Sendable, CustomStringConvertible {
    /// DNS names of the subjectAltName.
    public let dnsNames: [String]
    /// URIs of the subjectAltName.
    public let uris: [String]
    /// IP addresses of the subjectAltName, in numbers.
    public let addresses: [String]
    /// Common name of the subject; for people only, it decides nothing.
    public let commonName: String?
    /// SHA-256 of the certificate, 32 bytes.
    public let fingerprint: [UInt8]

    /// Reads a certificate.
    ///
    /// - Parameter certificate: an `X509 *` that the caller keeps.
    @unsafe
    init(certificate: OpaquePointer) {
        var dnsNames: [String] = []
        var uris: [String] = []
        var addresses: [String] = []
        // SAFETY: the caller keeps the certificate; the list is this function's and freed below.
        if let raw = unsafe X509_get_ext_d2i(certificate, NID_subject_alt_name, nil, nil) {
            let names = OpaquePointer(raw)
            defer { unsafe GENERAL_NAMES_free(names) }
            let count = unsafe copenssl_general_names_count(names)
            for index in 0..<count {
                var start: UnsafePointer<UInt8>?
                var length: Int32 = 0
                let kind = unsafe copenssl_general_name(names, index, &start, &length)
                // SAFETY: `length` bytes that live as long as the list; taken by length, never by NUL.
                let bytes = unsafe [UInt8](UnsafeBufferPointer(start: start, count: Int(max(0, length))))
                switch kind {
                case GEN_DNS: dnsNames.append(String(decoding: bytes, as: UTF8.self))
                case GEN_URI: uris.append(String(decoding: bytes, as: UTF8.self))
                case GEN_IPADD: addresses.append(Self.address(bytes))
                default: break
                }
            }
        }
        self.dnsNames = dnsNames
        self.uris = uris
        self.addresses = addresses
        commonName = unsafe Self.commonName(of: certificate)
        fingerprint = unsafe Self.fingerprint(of: certificate)
    }

    /// For tests and for peers that are known otherwise.
    package init(dnsNames: [String], uris: [String] = [], addresses: [String] = [], commonName: String? = nil) {
        self.dnsNames = dnsNames
        self.uris = uris
        self.addresses = addresses
        self.commonName = commonName
        fingerprint = [UInt8](repeating: 0, count: 32)
    }

    /// All names of the subjectAltName.
    public var names: [String] { dnsNames + uris + addresses }

    /// The first name, or the common name, or the fingerprint: printable ASCII whatever the certificate says.
    public var description: String {
        if let name = names.first ?? commonName { return Self.printable(name) }
        return "certificate " + fingerprint.prefix(8).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// All names for a message, printable.
    var listed: String {
        names.isEmpty ? "no name" : names.map { "\"\(Self.printable($0))\"" }.joined(separator: ", ")
    }

    /// A name as it can be shown to people: at most 256 bytes, anything but printable ASCII escaped.
    static func printable(_ name: String) -> String {
        var text = ""
        for byte in name.utf8.prefix(256) {
            if byte >= 0x20 && byte < 0x7f && byte != 0x22 && byte != 0x5c {
                text.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                text += "\\x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }
        }
        return text
    }

    private static func address(_ bytes: [UInt8]) -> String {
        if bytes.count == 4 { return bytes.map { String($0) }.joined(separator: ".") }
        return stride(from: 0, to: bytes.count - bytes.count % 2, by: 2)
            .map { String(UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]), radix: 16) }
            .joined(separator: ":")
    }

    @unsafe
    private static func commonName(of certificate: OpaquePointer) -> String? {
        // SAFETY: name and entry belong to the certificate, which the caller keeps; the text is taken by length.
        guard let subject = unsafe X509_get_subject_name(certificate) else { return nil }
        let index = unsafe X509_NAME_get_index_by_NID(subject, NID_commonName, -1)
        guard index >= 0, let entry = unsafe X509_NAME_get_entry(subject, index),
            let value = unsafe X509_NAME_ENTRY_get_data(entry), let start = unsafe ASN1_STRING_get0_data(value)
        else { return nil }
        let count = Int(max(0, unsafe ASN1_STRING_length(value)))
        return unsafe String(decoding: UnsafeBufferPointer(start: start, count: count), as: UTF8.self)
    }

    @unsafe
    private static func fingerprint(of certificate: OpaquePointer) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var length: UInt32 = 0
        // SAFETY: room for the largest digest, which lives during the call.
        let result = unsafe X509_digest(certificate, EVP_sha256(), &digest, &length)
        return result == 1 ? Array(digest.prefix(Int(length))) : []
    }
}
