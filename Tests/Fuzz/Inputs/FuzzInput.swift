// SPDX-License-Identifier: Apache-2.0

/// What is fed with arbitrary bytes: by the fuzzer (`Tests/Fuzz/run`), and with its corpus by `FuzzTests`.
///
/// A check returns for every input. What must not be is a trap: of the code itself, or of what the check demands.
public enum FuzzInput: String, CaseIterable, Sendable {
    /// Frames of the page protocol.
    case wire
    /// The description of a process, and eager pages.
    case image
    /// Files of `/proc`.
    case proc
    /// Session records, as `thaw status` and `thaw settle` read them.
    case record
    /// Files of a certificate folder, and allow lists.
    case certificates

    /// Decodes an input; the first byte chooses how.
    public func check(_ bytes: [UInt8]) {
        guard let first = bytes.first else { return }
        let rest = Array(bytes.dropFirst())
        switch self {
        case .wire: checkWire(first, rest)
        case .image: checkImage(first, rest)
        case .proc: checkProc(first, rest)
        case .record: checkRecord(bytes)
        case .certificates: checkCertificates(first, rest)
        }
    }
}
