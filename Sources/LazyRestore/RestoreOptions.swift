// SPDX-License-Identifier: Apache-2.0
public import FrameTransport
internal import PageWire

/// What becomes of the process when its source stays lost (`--on-source-loss`).
public enum SourceLossPolicy: String, Sendable, CaseIterable {
    /// Threads that need a page wait for it; everything else runs.
    case wait
    /// It is stopped, and continued when the source is back.
    case stop
    /// Who touches a page that has not come gets SIGBUS, and EFAULT inside of a system call, until the source is back.
    case poison
    /// It is killed, with its descendants.
    case kill
}

/// What `thaw restore` was asked to do.
public struct RestoreOptions: Sendable {
    /// Most rounds of pre-copy that can be asked for.
    public static let maximumPreCopyRounds = PageProtocol.maximumRounds

    /// Most connections over which pages are streamed.
    public static let maximumStreams = 8

    /// Over how many connections pages are streamed.
    ///
    /// Each keeps a CPU busy at both ends, and one of them fills a wire of 10 Gbit/s where CPUs do not do better: so further ones only
    /// where most CPUs are free for the process.
    ///
    /// - Parameters:
    ///   - asked: what the operator asked for.
    ///   - cpus: on how many CPUs this program may run.
    static func streams(asked: Int?, cpus: Int) -> Int {
        min(maximumStreams, max(1, asked ?? min(4, cpus / 4)))
    }

    /// Where the page server listens: a name or an address.
    public var address = "127.0.0.1"
    /// Its TCP port.
    public var port: UInt16
    /// Certificates and key of this side.
    public var tls = TLSLocation()
    /// The name that the page server's certificate must carry; nil for ``address``.
    public var serverName: String?
    /// Own pid and mount namespace, so that the original thread ids are free.
    public var newPIDNamespace = false
    /// Every page is fetched before the process runs.
    public var eager = false
    /// Which pages the process writes is told until it ends, or until this program does.
    public var tracked = false
    /// Most rounds in which pages are fetched while the process still runs at the source; 0 for none.
    public var preCopyRounds: UInt32 = 8
    /// Rounds end when what is left can be sent in this time.
    public var maximumPause = Duration.milliseconds(50)
    /// Whether to stay until the restored process ends, to pass signals on to it and to return its status.
    public var attached = true
    /// How long a fault thread looks for the next fault before it sleeps; nil for what suits the number of CPUs.
    public var spin: Duration?
    /// Over how many connections pages are streamed, at most ``maximumStreams``; nil for what suits the number of CPUs.
    public var streams: Int?
    /// Whether this program is started again with the same arguments when it dies with pages owed (``Keeper``).
    public var isKept = false
    /// How long a connection may take to come about.
    public var connectTimeout = Duration.seconds(10)
    /// How long the page server may take to freeze the process, and each answer after that.
    public var answerTimeout = Duration.seconds(60)
    /// How long a page that was asked for may take, and how long the stream may bring nothing while pages are missing.
    ///
    /// Then the connection counts as broken whatever else is heard of the source: a bit that changes on the way can make what comes a part
    /// of a record of TLS that never ends. A source that lists the pages of a terabyte is silent for some ten seconds.
    public var pageTimeouts = (asked: Duration.seconds(30), streamed: Duration.seconds(60))
    /// What becomes of the process when its source stays lost.
    public var onSourceLoss = SourceLossPolicy.wait
    /// How long the source may be lost before that.
    public var lossTimeout = Duration.seconds(30)
    /// How long a source that is lost is waited for when nothing but its acknowledgement is missing.
    public var acknowledgementTimeout = Duration.seconds(30)

    /// Defaults for a page server on this machine.
    public init(port: UInt16) {
        self.port = port
    }
}

/// How far a restore is, several times a second.
public struct RestoreProgress: Sendable, Equatable {
    /// Pages that are there.
    public var residentPages: UInt64 = 0
    /// Pages that exist in the process; 0 until the page map has come.
    public var totalPages: UInt64 = 0
    /// Bytes of pages received so far.
    public var bytesReceived: UInt64 = 0
    /// Faults that threads have waited for so far.
    public var faults: UInt64 = 0
    /// Since the process runs.
    public var elapsed = Duration.zero
    /// The last report: nothing is owed any more, or draining has ended otherwise.
    public var isLast = false

    /// A restore that has just begun.
    public init() {}
}

/// What a restore tells its command while it runs; called on the thread that runs the session.
public struct RestoreCallbacks: Sendable {
    /// The process runs; its pid as the command sees it.
    ///
    /// A detached restore answers its caller now.
    public var onRunning: @Sendable (Int32) -> Void = { _ in }
    /// Progress, about five times a second until the process is resident.
    public var onProgress: (@Sendable (RestoreProgress) -> Void)?

    /// Callbacks that do nothing.
    public init() {}
}
