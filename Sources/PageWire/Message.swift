// SPDX-License-Identifier: Apache-2.0
public import Paging

/// Every frame that is not a ``PageFrame``: greetings, the control connection, and the page map.
///
/// These are few, so they are values with arrays inside; the frames of the fault path are ``PageFrame``s and allocate
/// nothing.
public enum Message: Hashable, Sendable {
    /// Destination → source, first on every connection. `session` is ``SessionIdentifier/none`` on a control connection
    /// that opens a session, and else the identifier from ``welcome(session:)``: a control connection that names one takes
    /// the session up again.
    case hello(connection: ConnectionKind, session: SessionIdentifier)
    /// Source → destination, the answer to a greeting that is accepted.
    case welcome(session: SessionIdentifier)
    /// Source → destination, the answer to a greeting that is not; then the source closes. `code` is an exit code of
    /// the command.
    case refused(code: UInt16, text: String)

    /// Either way on control: the sender gives the restore up and says why. `code` is an exit code of the command.
    case abort(code: UInt16, text: String)
    /// Either way on control, at any time; answered by ``pong``.
    case ping
    /// The answer to ``ping``.
    case pong

    /// Destination → source: send pages on bulk while the process still runs; ended by ``preCopied(rounds:tracker:)``.
    case preCopy(PreCopyRequest)
    /// Destination → source: freeze the process and describe it.
    case describe(DescribeOptions)
    /// Source → destination: `bytes` are those from `offset` on of an encoded process description of `total` bytes.
    case description(total: UInt64, offset: UInt64, bytes: [UInt8])
    /// Source → destination: one encoded `EagerPages` value of the process image.
    case eagerPages([UInt8])
    /// Source → destination: that was all. `pages` counts the pages of all `eagerPages`; `digest` is over them.
    case handedOver(PageTally)
    /// Destination → source: the process is built, stopped, and every lazy mapping is registered. Asks for the grant.
    case built
    /// Source → destination: let it run. The source process never runs again by itself. `guards` are the guard ranges
    /// to set up.
    case grant(guards: [PageRun])
    /// Destination → source: the threads have been let go.
    case running
    /// Destination → source: every page of the page map has arrived and is installed.
    case complete(PageTally)
    /// Source → destination: count and digest match; nothing more is owed by either side.
    case acknowledged
    /// Destination → source, first on a control connection that takes a session up again: what is there and what is not,
    /// in one or more pieces.
    case resume(runs: [PageRun], options: ResumeOptions)
    /// Source → destination: what was said to be missing is owed again; the other connections may come.
    case resumed

    /// Source → destination on bulk: runs of lazy pages that exist at the source. Every page outside of all runs is
    /// zeros.
    case pageMap(runs: [PageRun], isLast: Bool)
    /// Source → destination on bulk, before the last piece of the page map: guard ranges that the grant does not name.
    case guardMap(runs: [PageRun])
    /// Source → destination on bulk: every page of the page map has been sent on this or the fault connection. `pages`
    /// is how many the page map holds.
    case drained(pages: UInt64)
    /// Source → destination on bulk: the pages of that round of pre-copy have been sent.
    case preCopyRound(PreCopyRound)
    /// Source → destination on bulk: no more pages are sent while the process runs; the destination may ask for the
    /// description.
    case preCopied(rounds: UInt32, tracker: TrackerKind)
    /// Source → destination on bulk, behind the page map: runs of pages of the page map that have not changed since
    /// they were sent for the last time. They are not sent again; every other page that was sent is void.
    case preCopyMap(runs: [PageRun], isLast: Bool)

    /// The kind of the frame.
    public var kind: FrameKind {
        switch self {
        case .hello: .hello
        case .welcome: .welcome
        case .refused: .refused
        case .abort: .abort
        case .ping: .ping
        case .pong: .pong
        case .describe: .describe
        case .description: .description
        case .eagerPages: .eagerPages
        case .handedOver: .handedOver
        case .built: .built
        case .grant: .grant
        case .running: .running
        case .complete: .complete
        case .acknowledged: .acknowledged
        case .resume: .resume
        case .resumed: .resumed
        case .pageMap: .pageMap
        case .guardMap: .guardMap
        case .drained: .drained
        case .preCopy: .preCopy
        case .preCopyRound: .preCopyRound
        case .preCopied: .preCopied
        case .preCopyMap: .preCopyMap
        }
    }
}

/// What a destination wishes for its description.
public struct DescribeOptions: OptionSet, Hashable, Sendable {
    /// The options as bits.
    public let rawValue: UInt32

    /// Takes the options as bits.
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// Send all memory eagerly: nothing is left to fetch after the process runs.
    public static let eager = DescribeOptions(rawValue: 1)

    /// Send the contents of shared objects with the description: none of them is lazy.
    public static let sharedMemoryAhead = DescribeOptions(rawValue: 2)

    /// Every option of this version.
    static let known: DescribeOptions = [.eager, .sharedMemoryAhead]
}

/// What the runs of a ``Message/resume(runs:options:)`` are.
public struct ResumeOptions: OptionSet, Hashable, Sendable {
    /// The options as bits.
    public let rawValue: UInt32

    /// Takes the options as bits.
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// This was the last piece.
    public static let last = ResumeOptions(rawValue: 1)
    /// The page map has come whole: the runs are pages of it that are missing.
    ///
    /// Without it the runs are pages that are there, everything else is missing, and the map is sent again.
    public static let hasMap = ResumeOptions(rawValue: 2)
    /// The map of pre-copied pages has come whole, or there is nothing that it could name.
    ///
    /// Without it that map is sent again, and what it names is not missing.
    public static let hasPreCopyMap = ResumeOptions(rawValue: 4)

    /// Every option of this version.
    static let known: ResumeOptions = [.last, .hasMap, .hasPreCopyMap]
}

/// How many pages, and the digest over them.
public struct PageTally: Hashable, Sendable, CustomStringConvertible {
    /// Number of pages.
    public var pages: UInt64
    /// The upper half of the digest.
    public var high: UInt64
    /// The lower half of the digest.
    public var low: UInt64

    /// A tally by its parts.
    public init(pages: UInt64, high: UInt64, low: UInt64) {
        self.pages = pages
        self.high = high
        self.low = low
    }

    /// The tally of a digest.
    public init(_ digest: PageDigest) {
        self.init(pages: digest.count, high: digest.value.high, low: digest.value.low)
    }

    /// The digest as 32 hexadecimal digits.
    public var digest: String {
        PageDigest(count: pages, high: high, low: low).description
    }

    /// As `17 pages, digest 00…ff`.
    public var description: String {
        "\(pages) pages, digest \(digest)"
    }
}
