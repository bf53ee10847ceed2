// SPDX-License-Identifier: Apache-2.0

/// Decides whether a thread that has nothing to do looks again or goes to sleep.
///
/// To be woken costs more than anything else on the way of a page, so after work it looks for more for a while. Where others
/// want the CPU that is a bad trade: the thread uses up the turn that it needs a moment later, maybe for the peer that it waits for.
/// A look that took long tells that somebody else has had the CPU; then it sleeps at once for a time.
///
/// A pure value: it is told the time.
public struct Spin: Sendable {
    /// A look takes about a microsecond; what takes longer than this (nanoseconds) was somebody else's turn.
    static let othersTurn: UInt64 = 30_000
    /// The shortest and the longest time (nanoseconds) in which nothing is looked for after such a turn.
    static let rests: ClosedRange<UInt64> = 10_000_000...640_000_000

    /// The longest time that may be asked for: what a thread that finds nothing burns each time.
    public static let longest = Duration.milliseconds(1)

    /// How long to look after work.
    public let limit: Duration

    private let nanoseconds: UInt64
    private var looksUntil: UInt64 = 0
    private var lastLook: UInt64 = 0
    private var restsUntil: UInt64 = 0
    private var rest = Self.rests.lowerBound

    /// How long a thread looks that serves faults.
    ///
    /// - Parameters:
    ///   - asked: what the operator asked for; nil for what is best where it has been measured: a little more than a round trip over
    ///     loopback takes, and not at all with two CPUs, which the stream of pages and the thread that faults have use for.
    ///   - cpus: on how many CPUs the thread may run; with one nobody can answer while it looks.
    public static func time(asked: Duration?, cpus: Int) -> Duration {
        guard cpus > 1 else { return .zero }
        return asked ?? (cpus > 2 ? .microseconds(50) : .zero)
    }

    /// Looks for so long; zero never looks.
    public init(_ limit: Duration) {
        self.limit = limit
        let (seconds, attoseconds) = limit.components
        nanoseconds = UInt64(clamping: seconds) * 1_000_000_000 + UInt64(clamping: attoseconds / 1_000_000_000)
    }

    /// There is nothing more to do at present.
    ///
    /// - Parameters:
    ///   - now: the present moment.
    ///   - patience: how many times ``limit`` to look for: more when something is sure to come.
    public mutating func begin(at now: MonotonicTime, patience: UInt64 = 1) {
        lastLook = now.nanoseconds
        looksUntil = now.nanoseconds < restsUntil ? 0 : now.nanoseconds + nanoseconds * patience
    }

    /// Whether to look, and to ask again if nothing was there; else it is time to sleep.
    public mutating func continues(at now: MonotonicTime) -> Bool {
        guard now.nanoseconds < looksUntil else { return false }
        guard now.nanoseconds - lastLook <= Self.othersTurn else {
            // Undisturbed for a while: this is not the rule.
            let isRare = now.nanoseconds > restsUntil + rest
            rest = isRare ? Self.rests.lowerBound : min(rest * 2, Self.rests.upperBound)
            restsUntil = now.nanoseconds + rest
            return false
        }
        lastLook = now.nanoseconds
        return true
    }
}
