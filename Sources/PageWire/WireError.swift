// SPDX-License-Identifier: Apache-2.0

/// Bytes from the other side that are not what the page protocol says.
public struct WireError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong, for a program.
    public enum Code: Hashable, Sendable {
        /// Fewer bytes than the structure has.
        case truncated
        /// The greeting does not begin with "THAW": something else speaks here.
        case badMagic
        /// The other side speaks a version that this one does not.
        case unsupportedVersion
        /// A kind of frame that this version does not know.
        case unknownKind
        /// A known kind that this side does not get on this connection.
        case unexpectedKind
        /// A payload length outside of the bounds of its kind.
        case badLength
        /// A field with a value that it may not have.
        case badField
    }

    /// What is wrong.
    public let code: Code
    /// Where the offending field begins, in bytes from the start of the frame.
    public let offset: Int
    /// What should have been there.
    public let expected: String
    /// What was there.
    public let found: String

    init(_ code: Code, at offset: Int, expected: String, found: String) {
        self.code = code
        self.offset = offset
        self.expected = expected
        self.found = found
    }

    /// One sentence.
    public var description: String {
        "the peer broke the page protocol: byte \(offset) of a frame should hold \(expected) but holds \(found)"
    }
}
