// SPDX-License-Identifier: Apache-2.0

/// What a destination wishes of pre-copy.
public struct PreCopyRequest: Hashable, Sendable {
    /// Most rounds, at least 1.
    public var rounds: UInt32
    /// Rounds end when what is left can be sent in this time, in nanoseconds.
    public var maximumPause: UInt64
    /// Most pages that the destination keeps; a source that sends more different ones breaks the protocol.
    public var maximumPages: UInt64

    /// A request by its parts.
    public init(rounds: UInt32, maximumPause: UInt64, maximumPages: UInt64) {
        self.rounds = rounds
        self.maximumPause = maximumPause
        self.maximumPages = maximumPages
    }

    init(decoding payload: Span<UInt8>) throws(WireError) {
        let rounds = payload.uint32(at: 0)
        guard (1...PageProtocol.maximumRounds).contains(rounds) else {
            throw WireError(
                .badField,
                at: 16,
                expected: "1 to \(PageProtocol.maximumRounds) rounds",
                found: "\(rounds)"
            )
        }
        try Self.requireZero(payload)
        self.init(rounds: rounds, maximumPause: payload.uint64(at: 8), maximumPages: payload.uint64(at: 16))
    }

    /// The four bytes behind a number of 32 bits.
    fileprivate static func requireZero(_ payload: Span<UInt8>) throws(WireError) {
        let value = payload.uint32(at: 4)
        guard value == 0 else { throw WireError(.badField, at: 20, expected: "zero", found: "\(value)") }
    }
}

/// A round of pre-copy that has been sent.
public struct PreCopyRound: Hashable, Sendable {
    /// Its number, from 1.
    public var number: UInt32
    /// Pages that were sent in it.
    public var pages: UInt64
    /// How long sending took, in nanoseconds.
    public var duration: UInt64

    /// A round by its parts.
    public init(number: UInt32, pages: UInt64, duration: UInt64) {
        self.number = number
        self.pages = pages
        self.duration = duration
    }

    init(decoding payload: Span<UInt8>) throws(WireError) {
        try PreCopyRequest.requireZero(payload)
        self.init(number: payload.uint32(at: 0), pages: payload.uint64(at: 8), duration: payload.uint64(at: 16))
    }
}

/// How the source finds out which pages were written while the process ran.
public enum TrackerKind: UInt8, Hashable, Sendable, CaseIterable {
    /// Not at all: nothing was sent while the process ran.
    case none = 0
    /// userfaultfd write protection that the kernel lifts by itself (Linux 6.7).
    case writeProtectAsync = 1
    /// userfaultfd write protection that the page server lifts.
    case writeProtectSync = 2
    /// Soft-dirty bits.
    case softDirty = 3
}
