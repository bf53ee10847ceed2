// SPDX-License-Identifier: Apache-2.0

/// What a session did, for `--stats`.
public struct SessionStatistics: Sendable {
    /// Pages by the way they came.
    public struct Pages: Sendable, Equatable {
        /// Pages that exist in the process.
        public var total: UInt64 = 0
        /// Pages that were answered with zeros and cost no bytes.
        public var zero: UInt64 = 0
        /// Pages that were sent while the process still ran at the source.
        public var preCopied: UInt64 = 0
        /// Pages that a thread waited for.
        public var demanded: UInt64 = 0
        /// Pages that came before a thread touched them.
        public var prefetched: UInt64 = 0
        /// Pages that were sent with the description.
        public var eager: UInt64 = 0
        /// Pages that arrived and were not needed any more.
        public var stale: UInt64 = 0

        /// No page at all.
        public init() {}
    }

    /// The process, as the command's caller sees it.
    public var pid: Int32 = 0
    /// `complete`, `undone`, `interrupted`, `refused` or `failed`.
    public var result = "failed"
    /// Freeze to first restored instruction, as seen by this side.
    public var pause: Duration?
    /// Freeze to every page installed, as seen by this side.
    public var timeToResident: Duration?
    /// Pages by the way they came.
    public var pages = Pages()
    /// Bytes of frames, without those of TLS.
    public var bytesReceived: UInt64 = 0
    /// Bytes of frames, without those of TLS.
    public var bytesSent: UInt64 = 0
    /// Faults that threads waited for.
    public var latency = LatencyHistogram()
    /// Waits of all threads together.
    public var stallTotal = Duration.zero
    /// Time in which at least one thread waited.
    public var stallUnion = Duration.zero
    /// Rounds of pre-copy, in order.
    public var preCopyRounds: [(pages: UInt64, duration: Duration)] = []
    /// `writeProtectAsync`, `softDirty` or `none`.
    public var tracker = "none"
    /// Pages that the restored process has written since they arrived, at the last look; nil when nobody looked.
    public var written: UInt64?
    /// How often the connection came back.
    public var reconnects = 0
    /// `TLSv1.3`.
    public var tlsVersion = ""
    /// For example `TLS_AES_256_GCM_SHA384`.
    public var tlsCipher = ""

    /// Statistics of a session in which nothing has happened.
    public init() {}

    /// The object that `--stats` writes.
    public var json: JSON {
        .object([
            .init("pid", .integer(Int64(pid))),
            .init("result", .text(result)),
            .init("pause", pause.map(JSON.seconds) ?? .null),
            .init("timeToResident", timeToResident.map(JSON.seconds) ?? .null),
            .init("pages", pages.json),
            .init(
                "bytes",
                .object([.init("received", .unsigned(bytesReceived)), .init("sent", .unsigned(bytesSent))])
            ),
            .init("faults", faults),
            .init("preCopyRounds", .list(preCopyRounds.map(Self.round))),
            .init("tracker", .text(tracker)),
            .init("written", written.map(JSON.unsigned) ?? .null),
            .init("reconnects", .integer(Int64(reconnects))),
            .init("tls", .object([.init("version", .text(tlsVersion)), .init("cipher", .text(tlsCipher))])),
        ])
    }

    private var faults: JSON {
        func seconds(_ nanoseconds: UInt64) -> JSON { .seconds(.nanoseconds(Int64(clamping: nanoseconds))) }
        let histogram = latency.byMicroseconds.map { JSON.list([.unsigned($0.upperBound), .unsigned($0.count)]) }
        return .object([
            .init("count", .unsigned(latency.count)),
            .init(
                "latency",
                .object([
                    .init("p50", seconds(latency.percentile(0.5))),
                    .init("p90", seconds(latency.percentile(0.9))),
                    .init("p99", seconds(latency.percentile(0.99))),
                    .init("p999", seconds(latency.percentile(0.999))),
                    .init("max", seconds(latency.maximum)),
                    .init("histogram", .list(histogram)),
                ])
            ),
            .init("stallTotal", .seconds(stallTotal)),
            .init("stallUnion", .seconds(stallUnion)),
        ])
    }

    private static func round(_ round: (pages: UInt64, duration: Duration)) -> JSON {
        .object([.init("pages", .unsigned(round.pages)), .init("seconds", .seconds(round.duration))])
    }
}

extension SessionStatistics.Pages {
    var json: JSON {
        .object([
            .init("total", .unsigned(total)),
            .init("zero", .unsigned(zero)),
            .init("preCopied", .unsigned(preCopied)),
            .init("demanded", .unsigned(demanded)),
            .init("prefetched", .unsigned(prefetched)),
            .init("eager", .unsigned(eager)),
            .init("stale", .unsigned(stale)),
        ])
    }
}
