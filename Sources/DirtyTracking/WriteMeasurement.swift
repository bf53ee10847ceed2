// SPDX-License-Identifier: Apache-2.0
internal import Paging

/// What a process has written between two looks.
public struct WriteMeasurement: Sendable {
    /// Which measurement it is, from 1.
    public var number = 0
    /// Time between the two looks.
    public var duration = Duration.zero
    /// Pages that were written, or that were not there before.
    public var written: UInt64 = 0
    /// Pages with data that are there no more.
    public var dropped: UInt64 = 0
    /// Pages with data at the second look.
    public var present: UInt64 = 0
    /// Mappings with data, ascending.
    public var mappings: [MappingWrites] = []
    /// Time that the second look took.
    public var scanTime = Duration.zero

    /// A measurement that has found nothing.
    public init() {}

    /// Bytes in the pages that were written.
    public var writtenBytes: UInt64 { written * PageSize.base }

    /// Bytes of written pages a second; a page counts once, however often it was written.
    public var bytesPerSecond: Double {
        duration > .zero ? Double(writtenBytes) / (duration / .seconds(1)) : 0
    }

    /// Part of the pages with data that was written, 0 to 1.
    public var share: Double {
        present > 0 ? min(1, Double(written) / Double(present)) : 0
    }
}

/// How long a process would be stopped while what it has just written is sent.
///
/// Sending alone: Thaw itself lets a process run before its last pages have arrived, so it does better where there is more than a
/// little left to send.
public struct PauseEstimate: Sendable {
    /// Bytes that can be sent a second.
    public var bandwidth: Double

    /// Estimates for a bandwidth above 0.
    public init(bandwidth: Double) {
        precondition(bandwidth > 0, "PauseEstimate: nothing can be sent")
        self.bandwidth = bandwidth
    }

    /// Time to send so many pages.
    public func sending(pages: UInt64) -> Duration {
        .seconds(Double(pages) * Double(PageSize.base) / bandwidth)
    }

    /// Time to send what one interval leaves.
    public func afterInterval(_ measurement: WriteMeasurement) -> Duration {
        sending(pages: measurement.written)
    }

    /// Pages that are left at most when one round of pre-copy has sent all pages with data, while the process goes on as it did.
    ///
    /// A round that takes no longer than the interval leaves no more than the interval has; how much less cannot be told, as the
    /// process may write to the same pages all the time. In a longer one no more is written than the time suggests.
    public func pagesLeftByCopy(_ measurement: WriteMeasurement) -> UInt64 {
        guard measurement.duration > .zero else { return measurement.present }
        let part = max(1, sending(pages: measurement.present) / measurement.duration)
        return UInt64(min(Double(measurement.present), Double(measurement.written) * part).rounded(.up))
    }

    /// Time to send what one round of pre-copy leaves at most.
    public func afterCopy(_ measurement: WriteMeasurement) -> Duration {
        sending(pages: pagesLeftByCopy(measurement))
    }
}
