// SPDX-License-Identifier: Apache-2.0
public import Paging

/// What one look at a process has found.
public struct TrackerRound: Sendable {
    /// Pages with data that were written since the last round, or that were not there then: to be sent now.
    ///
    /// They were armed before they were listed, so a write that comes while they are read shows in the next round.
    public var written = PageSet()
    /// Pages whose earlier copies are void: unmapped, thrown away, of another mapping now.
    ///
    /// To be taken away first; some may be in ``written`` again.
    public var dropped = PageSet()
    /// Mappings with data, ascending.
    public var mappings: [MappingWrites] = []
    /// All pages with data in mappings that are tracked, as of this round.
    public var presentPages: UInt64 = 0
    /// Time that looking and arming took.
    public var scanTime: Duration = .zero

    /// A round that has found nothing.
    public init() {}
}

/// What a round has found in one mapping.
public struct MappingWrites: Hashable, Sendable {
    /// The addresses.
    public var range: AddressRange
    /// As in `/proc/PID/maps`; empty for anonymous memory.
    public var name: String
    /// Pages among ``TrackerRound/written``.
    public var written: UInt64
    /// Pages with data.
    public var present: UInt64
}
