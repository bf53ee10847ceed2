// SPDX-License-Identifier: Apache-2.0
internal import PageWire
internal import Paging

/// Decides when pre-copy has done what it can.
struct PreCopyRule {
    /// A round that leaves more than this part of what the one before sent gains too little, in percent.
    private static let gain: UInt64 = 80
    /// Rounds over fewer pages say nothing about the bandwidth, and there is nothing to gain any more.
    private static let fewPages: UInt64 = 64

    private let request: PreCopyRequest
    private var rounds: UInt32 = 0
    private var lastSent: UInt64 = 0
    /// Pages a second; that of the largest round, which measured it best.
    private(set) var bandwidth: Double = 0
    private var largest: UInt64 = 0

    init(_ request: PreCopyRequest) {
        self.request = request
    }

    /// How long sending takes at the bandwidth so far; nil when there is none yet.
    func estimate(_ pages: UInt64) -> Duration? {
        bandwidth > 0 ? .seconds(Double(pages) / bandwidth) : nil
    }

    /// Whether these pages are worth sending while the process runs.
    ///
    /// - Parameter pages: written since the last round.
    func goesOn(with pages: UInt64) -> Bool {
        guard rounds > 0 else { return true }
        guard rounds < request.rounds, pages > Self.fewPages else { return false }
        // Written as fast as sent: another round would find as much again.
        guard pages < lastSent / 100 * Self.gain else { return false }
        guard let estimate = estimate(pages) else { return true }
        return estimate > .nanoseconds(Int64(clamping: request.maximumPause))
    }

    /// A round has been sent.
    mutating func sent(_ pages: UInt64, in time: Duration) {
        rounds += 1
        lastSent = pages
        guard pages >= largest, time > .zero else { return }
        largest = pages
        bandwidth = Double(pages) / (time / .seconds(1))
    }
}
