// SPDX-License-Identifier: Apache-2.0
internal import CLinux

/// A set of capabilities, capabilities(7); bit n stands for capability n, as in `/proc/PID/status`.
public struct Capabilities: OptionSet, Hashable, Sendable {
    /// The bits of the kernel.
    public let rawValue: UInt64

    /// Wraps bits of the kernel.
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    private init(number: UInt64) {
        rawValue = 1 << number
    }

    /// Those that the calling thread has in effect.
    ///
    /// The corresponding call is `capget`.
    public static var effective: Capabilities {
        get throws(SystemCallError) {
            Capabilities(rawValue: try sets().effective)
        }
    }

    /// Takes everything else from the calling thread, for good, and from the threads that it starts from now on.
    ///
    /// A thread that never had them gets none of these.
    ///
    /// The corresponding call is `capset`.
    public func limitCurrentThread() throws(SystemCallError) {
        var sets = try Self.sets()
        sets.effective &= rawValue
        sets.permitted &= rawValue
        sets.inheritable &= rawValue
        // SAFETY: one structure that lives during the call.
        try checked("capset", unsafe clinux_set_capabilities(&sets))
    }

    private static func sets() throws(SystemCallError) -> clinux_capabilities {
        var sets = clinux_capabilities()
        // SAFETY: one structure that lives during the call.
        try checked("capget", unsafe clinux_get_capabilities(&sets))
        return sets
    }
}

// Named after the constants of capabilities(7).
// swift-format-ignore: AllPublicDeclarationsHaveDocumentation
extension Capabilities {
    public static let dacOverride = Self(number: 1)
    public static let kill = Self(number: 5)
    public static let sysPtrace = Self(number: 19)
    public static let sysNice = Self(number: 23)
    public static let checkpointRestore = Self(number: 40)
}
