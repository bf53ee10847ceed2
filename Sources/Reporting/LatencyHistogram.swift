// SPDX-License-Identifier: Apache-2.0

/// Counts durations in buckets of about three per cent, so that recording costs no allocation and percentiles are exact to a bucket.
public struct LatencyHistogram: Sendable, Equatable {
    /// Each power of two of nanoseconds is cut into this many buckets.
    private static let perOctave = 32
    private static let octaves = 40
    private var buckets = [UInt64](repeating: 0, count: Self.octaves * Self.perOctave)
    /// One bucket for each bit width of the whole microseconds.
    private var microseconds = [UInt64](repeating: 0, count: 64)
    /// How many durations were recorded.
    public private(set) var count: UInt64 = 0
    /// The longest of them.
    public private(set) var maximum: UInt64 = 0
    /// All of them together, in nanoseconds.
    public private(set) var total: UInt64 = 0

    /// A histogram without any duration.
    public init() {}

    /// Counts one duration.
    public mutating func record(nanoseconds: UInt64) {
        buckets[Self.bucket(of: nanoseconds)] += 1
        microseconds[UInt64.bitWidth - (nanoseconds / 1000).leadingZeroBitCount] += 1
        count += 1
        maximum = max(maximum, nanoseconds)
        total &+= nanoseconds
    }

    /// Adds what another histogram counted.
    public mutating func merge(_ other: Self) {
        for index in buckets.indices { buckets[index] += other.buckets[index] }
        for index in microseconds.indices { microseconds[index] += other.microseconds[index] }
        count += other.count
        maximum = max(maximum, other.maximum)
        total &+= other.total
    }

    /// The duration in nanoseconds that the given share (0...1) of all does not exceed; 0 when there is none.
    public func percentile(_ share: Double) -> UInt64 {
        guard count > 0 else { return 0 }
        let rank = max(1, UInt64((share * Double(count)).rounded(.up)))
        var seen: UInt64 = 0
        for index in buckets.indices {
            seen += buckets[index]
            if seen >= rank { return min(maximum, Self.upperBound(of: index)) }
        }
        return maximum
    }

    /// Counts by powers of two of microseconds: `(upper bound in microseconds, count)`, without empty ends.
    public var byMicroseconds: [(upperBound: UInt64, count: UInt64)] {
        guard let first = microseconds.firstIndex(where: { $0 > 0 }),
            let last = microseconds.lastIndex(where: { $0 > 0 })
        else { return [] }
        return (first...last).map { (1 << UInt64($0), microseconds[$0]) }
    }

    private static func bucket(of nanoseconds: UInt64) -> Int {
        guard nanoseconds >= UInt64(perOctave) else { return Int(nanoseconds) }
        let octave = 63 - nanoseconds.leadingZeroBitCount
        let within = Int(truncatingIfNeeded: nanoseconds >> UInt64(octave - 5)) - perOctave
        return min((octave - 4) * perOctave + within, octaves * perOctave - 1)
    }

    private static func lowerBound(of bucket: Int) -> UInt64 {
        guard bucket >= perOctave else { return UInt64(bucket) }
        let octave = bucket / perOctave + 4
        return (UInt64(bucket % perOctave) + UInt64(perOctave)) << UInt64(octave - 5)
    }

    private static func upperBound(of bucket: Int) -> UInt64 {
        lowerBound(of: bucket + 1) - 1
    }
}
