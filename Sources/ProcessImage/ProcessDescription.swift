// SPDX-License-Identifier: Apache-2.0
//
// Fields are named as in proc(5) and in the calls that set them; those that need more words have them.
// swift-format-ignore-file: AllPublicDeclarationsHaveDocumentation

/// Everything about a frozen process but the contents of its lazy pages.
public struct ProcessDescription: ArchivedValue, Equatable {
    /// Version of this encoding; both sides must have the same.
    public static let currentVersion: UInt32 = 1
    /// The longest encoding that is accepted, in bytes.
    public static let maximumBytes = 256 << 20

    public var version = Self.currentVersion
    public var machine = MachineDescription()
    public var identity = ProcessIdentity()
    public var memory = MemoryDescription()
    public var files = FileTable()
    public var signals = SignalDescription()
    public var timers = TimerDescription()
    public var settings = ProcessSettings()
    /// The leader first.
    public var threads: [ThreadDescription] = []

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&version)
        guard version == Self.currentVersion else {
            throw ProcessImageError(
                "version \(version); this thaw knows version \(Self.currentVersion): run the same thaw on both sides"
            )
        }
        try archive.field(&machine)
        try archive.field(&identity)
        try archive.field(&memory)
        try archive.field(&files)
        try archive.field(&signals)
        try archive.field(&timers)
        try archive.field(&settings)
        try archive.field(&threads)
    }
}

/// What the process was used to find on its machine.
public struct MachineDescription: ArchivedValue, Equatable {
    /// `x86_64`.
    public var architecture = ""
    /// uname(2) release, for messages.
    public var kernelRelease = ""
    /// `/proc/sys/kernel/random/boot_id`: tells whether source and destination are one machine.
    public var bootID = ""
    /// XCR0: the state components the process may use (XGETBV).
    public var extendedStateComponents: UInt64 = 0
    /// Size of the XSAVE area in bytes (the length of NT_X86_XSTATE).
    public var extendedStateSize: UInt32 = 0
    /// CLOCK_MONOTONIC of the process (its time namespace) at the freeze, in nanoseconds.
    public var monotonicClock: Int64 = 0
    /// CLOCK_BOOTTIME of the process (its time namespace) at the freeze, in nanoseconds.
    public var bootClock: Int64 = 0
    /// Nanoseconds from the beginning of the freeze to the complete description.
    public var describingTime: UInt64 = 0

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&architecture)
        try archive.field(&kernelRelease)
        try archive.field(&bootID)
        try archive.field(&extendedStateComponents)
        try archive.field(&extendedStateSize)
        try archive.field(&monotonicClock)
        try archive.field(&bootClock)
        try archive.field(&describingTime)
    }
}

/// Who the process is among others.
///
/// Ids are those that the process itself sees.
public struct ProcessIdentity: ArchivedValue, Equatable {
    public var pid: Int32 = 0
    public var processGroup: Int32 = 0
    public var session: Int32 = 0
    /// `/proc/PID/exe`.
    public var executable = ""
    /// `/proc/PID/cmdline` with spaces, for messages only: the arguments themselves are memory.
    public var commandLine = ""
    public var workingDirectory = ""

    public init() {}

    public mutating func visit<A: Archive>(_ archive: inout A) throws(ProcessImageError) {
        try archive.field(&pid)
        try archive.field(&processGroup)
        try archive.field(&session)
        try archive.field(&executable)
        try archive.field(&commandLine)
        try archive.field(&workingDirectory)
    }
}
