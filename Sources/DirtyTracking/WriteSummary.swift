// SPDX-License-Identifier: Apache-2.0
internal import Paging

/// What all measurements of a process say together.
public struct WriteSummary: Sendable {
    /// How many there were.
    public private(set) var count = 0
    /// Time that they cover.
    public private(set) var duration = Duration.zero
    /// Bytes of written pages; a page counts once in each measurement.
    public private(set) var writtenBytes: UInt64 = 0
    /// The one with the most pages written a second.
    public private(set) var fastest = WriteMeasurement()
    /// The one with the most pages written.
    public private(set) var largest = WriteMeasurement()
    /// The last one.
    public private(set) var last = WriteMeasurement()
    /// Bytes a second over time.
    public private(set) var history = RateHistory()

    /// No measurement yet.
    public init() {}

    /// Takes in one more measurement.
    public mutating func add(_ measurement: WriteMeasurement) {
        // Lists of mappings are long, and nobody asks for those of the past.
        var slim = measurement
        slim.mappings = []
        if count == 0 || slim.bytesPerSecond > fastest.bytesPerSecond { fastest = slim }
        if count == 0 || slim.written > largest.written { largest = slim }
        last = slim
        count += 1
        duration += slim.duration
        writtenBytes += slim.writtenBytes
        history.append(slim.bytesPerSecond)
    }

    /// Bytes of written pages a second, over all measurements.
    public var bytesPerSecond: Double {
        duration > .zero ? Double(writtenBytes) / (duration / .seconds(1)) : 0
    }

    /// The average as one measurement, whose memory is that of the last one.
    public var average: WriteMeasurement {
        var average = last
        guard count > 0 else { return average }
        average.duration = duration / count
        let pages = writtenBytes / PageSize.base
        average.written = (pages + UInt64(count) / 2) / UInt64(count)
        average.dropped = 0
        return average
    }
}

/// Rates over time, in a bounded number of values: each stands for the same number of rates, and is the highest of them.
public struct RateHistory: Sendable {
    /// Most values that are kept.
    public static let limit = 64

    /// The values, oldest first; the last one may stand for fewer rates than the others.
    public private(set) var values: [Double] = []
    /// Rates for which a value stands.
    public private(set) var width = 1
    private var inLast = 0

    /// No rates yet.
    public init() {}

    /// Adds the newest rate.
    public mutating func append(_ rate: Double) {
        if inLast == width || values.isEmpty {
            if values.count == Self.limit { halve() }
            values.append(rate)
            inLast = 1
        } else {
            values[values.count - 1] = max(values[values.count - 1], rate)
            inLast += 1
        }
    }

    /// Lets each value stand for twice as many rates.
    private mutating func halve() {
        values = stride(from: 0, to: values.count, by: 2).map { max(values[$0], values[min($0 + 1, values.count - 1)]) }
        width *= 2
    }
}
