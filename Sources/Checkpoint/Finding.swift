// SPDX-License-Identifier: Apache-2.0

/// One thing of a process that cannot be carried.
public struct Finding: Hashable, Sendable, CustomStringConvertible {
    /// The row of the table that refuses it.
    public let kind: RefusedObject
    /// What it is, with its number or address: `descriptor 5 (socket:[4711])`, `mapping 7f00…-7f00… (/dev/dri/card0)`.
    public let object: String

    /// Names an object of a refused kind.
    public init(_ kind: RefusedObject, _ object: String) {
        self.kind = kind
        self.object = object
    }

    /// Why it cannot be carried.
    public var reason: String { kind.reason }

    /// What its user can do about it.
    public var remedy: String { kind.remedy }

    /// Object, reason and remedy in one line.
    public var description: String {
        "\(object): \(reason); \(remedy)"
    }
}
