// SPDX-License-Identifier: Apache-2.0

/// Constants of the page protocol; the article "The page protocol" describes it byte by byte.
public enum PageProtocol {
    /// The version that this program speaks.
    public static let version: UInt16 = 6
    /// "THAW", the first bytes of a greeting.
    public static let magic: [UInt8] = [0x54, 0x48, 0x41, 0x57]
    /// Most pages in one frame of pages, and most pages asked for at once.
    public static let maximumPages: UInt32 = 64
    /// Most runs in one frame of the page map, and of what a destination says that it misses.
    public static let maximumMapRuns = 4096
    /// Most guard ranges in a grant.
    public static let maximumGuards = 65536
    /// Most bytes of the process description in one frame.
    public static let maximumChunk = 1 << 20
    /// Most bytes of encoded eager pages in one frame: a mebibyte of pages and room for its description.
    public static let maximumEagerChunk = 1 << 20 + 4096
    /// Largest process description, in bytes.
    public static let maximumDescription: UInt64 = 256 << 20
    /// Most rounds of pre-copy in one session.
    public static let maximumRounds: UInt32 = 1000
    /// Most bytes of text in a refusal or an abort.
    public static let maximumText = 4096
}

/// The end of a session that sends a frame.
public enum Side: Hashable, Sendable {
    /// The page server: it owns the frozen process.
    case source
    /// The restorer: it connects.
    case destination

    /// The other end.
    public var peer: Side {
        switch self {
        case .source: .destination
        case .destination: .source
        }
    }
}

/// What a connection is for; its number stands in the greeting.
public enum ConnectionKind: UInt8, Hashable, Sendable, CaseIterable {
    /// Description, grant and completion; one a session, the first.
    case control = 1
    /// Urgent requests for pages and their answers, nothing else.
    case fault = 2
    /// The page map and every page that nobody asked for.
    case bulk = 3
}

/// The kind of a frame; its number stands in the frame header.
public enum FrameKind: UInt8, Hashable, Sendable, CaseIterable {
    // Every connection, once each, before anything else.
    case hello = 0x01
    case welcome = 0x02
    case refused = 0x03

    // Control.
    case abort = 0x04
    case ping = 0x05
    case pong = 0x06
    case describe = 0x10
    case description = 0x11
    case eagerPages = 0x12
    case handedOver = 0x13
    case built = 0x14
    case grant = 0x15
    case running = 0x16
    case complete = 0x17
    case acknowledged = 0x18
    case preCopy = 0x19
    case resume = 0x1a
    case resumed = 0x1b

    // Fault.
    case requestPages = 0x20
    case pages = 0x21
    case zeroPages = 0x22
    case absentPages = 0x23
    case failed = 0x24
    case guardPages = 0x25
    case sentPages = 0x26

    // Bulk.
    case pageMap = 0x30
    case pageRun = 0x31
    case zeroRun = 0x32
    case drained = 0x33
    case preCopyRound = 0x34
    case preCopied = 0x35
    case preCopyMap = 0x36
    case guardMap = 0x37

    /// Bytes that a payload of this kind may have.
    public var payloadBounds: ClosedRange<Int> {
        let pageBytes = Int(PageProtocol.maximumPages) * 4096
        return switch self {
        case .hello, .welcome: 40...40
        case .refused, .abort: 2...2 + PageProtocol.maximumText
        case .ping, .pong, .built, .running, .acknowledged, .resumed: 0...0
        case .describe: 4...4
        case .description: 17...16 + PageProtocol.maximumChunk
        case .eagerPages: 1...PageProtocol.maximumEagerChunk
        case .handedOver, .complete: 24...24
        case .grant: 8...8 + 16 * PageProtocol.maximumGuards
        case .requestPages, .zeroPages, .absentPages, .failed, .guardPages, .sentPages, .zeroRun: 32...32
        case .pages, .pageRun: 32 + 4096...32 + pageBytes
        case .pageMap, .preCopyMap, .guardMap, .resume: 8...8 + 16 * PageProtocol.maximumMapRuns
        case .drained: 8...8
        case .preCopy, .preCopyRound: 24...24
        case .preCopied: 8...8
        }
    }

    /// Whether this kind holds a ``PageFrame``.
    public var isPageFrame: Bool {
        switch self {
        case .requestPages, .pages, .zeroPages, .absentPages, .failed, .guardPages, .sentPages, .pageRun, .zeroRun: true
        case .hello, .welcome, .refused, .abort, .ping, .pong, .describe, .description, .eagerPages, .handedOver,
            .built, .grant, .running, .complete, .acknowledged, .preCopy, .resume, .resumed, .pageMap, .drained,
            .preCopyRound, .preCopied, .preCopyMap, .guardMap:
            false
        }
    }

    /// Whether this kind says what is in its pages, which its digest is over.
    public var statesContents: Bool {
        switch self {
        case .pages, .zeroPages, .pageRun, .zeroRun: true
        case .requestPages, .absentPages, .failed, .guardPages, .sentPages: false
        case .hello, .welcome, .refused, .abort, .ping, .pong, .describe, .description, .eagerPages, .handedOver,
            .built, .grant, .running, .complete, .acknowledged, .preCopy, .resume, .resumed, .pageMap, .drained,
            .preCopyRound, .preCopied, .preCopyMap, .guardMap:
            false
        }
    }

    /// Whether this kind makes or answers a request, and so carries its id.
    public var carriesRequest: Bool {
        switch self {
        case .requestPages, .pages, .zeroPages, .absentPages, .failed, .guardPages, .sentPages: true
        case .hello, .welcome, .refused, .abort, .ping, .pong, .describe, .description, .eagerPages, .handedOver,
            .built, .grant, .running, .complete, .acknowledged, .preCopy, .resume, .resumed, .pageMap, .pageRun,
            .zeroRun, .drained, .preCopyRound, .preCopied, .preCopyMap, .guardMap:
            false
        }
    }

    /// Whether `sender` may send this kind on `connection`.
    ///
    /// A greeting and its answer may come on any connection; that they come once and first is for the reader to see to.
    public func isLegal(on connection: ConnectionKind, from sender: Side) -> Bool {
        switch self {
        case .hello: sender == .destination
        case .welcome, .refused: sender == .source
        case .abort, .ping, .pong: connection == .control
        case .describe, .built, .running, .complete, .preCopy, .resume:
            connection == .control && sender == .destination
        case .description, .eagerPages, .handedOver, .grant, .acknowledged, .resumed:
            connection == .control && sender == .source
        case .requestPages: connection == .fault && sender == .destination
        case .pages, .zeroPages, .absentPages, .failed, .guardPages, .sentPages:
            connection == .fault && sender == .source
        case .pageMap, .pageRun, .zeroRun, .drained, .preCopyRound, .preCopied, .preCopyMap, .guardMap:
            connection == .bulk && sender == .source
        }
    }
}
