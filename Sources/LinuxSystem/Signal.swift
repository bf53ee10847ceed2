// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc

/// A signal number, see signal(7).
public struct Signal: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// The number, 1 to 64 for one that exists.
    public let rawValue: Int32

    /// Wraps a number.
    public init(rawValue: Int32) {
        self.rawValue = rawValue
    }

    /// The C name without `SIG`-less aliases: `SIGTERM`, or `SIGRTMIN+2` and `signal 70` for those without a name.
    public var description: String {
        if rawValue >= 34 && rawValue <= 64 { return "SIGRTMIN+\(rawValue - 34)" }
        // SAFETY: a constant string of the C library, or NULL for a number without a name.
        guard let name = unsafe clinux_signal_name(rawValue) else { return "signal \(rawValue)" }
        return "SIG" + (unsafe String(cString: name))
    }
}

// Named after what signal(7) says of them.
// swift-format-ignore: AllPublicDeclarationsHaveDocumentation
extension Signal {
    public static let hangup = Self(rawValue: SIGHUP)
    public static let interrupt = Self(rawValue: SIGINT)
    public static let quit = Self(rawValue: SIGQUIT)
    public static let trap = Self(rawValue: SIGTRAP)
    public static let abort = Self(rawValue: SIGABRT)
    public static let bus = Self(rawValue: SIGBUS)
    public static let kill = Self(rawValue: SIGKILL)
    public static let user1 = Self(rawValue: SIGUSR1)
    public static let segmentationFault = Self(rawValue: SIGSEGV)
    public static let user2 = Self(rawValue: SIGUSR2)
    public static let brokenPipe = Self(rawValue: SIGPIPE)
    public static let alarm = Self(rawValue: SIGALRM)
    public static let terminate = Self(rawValue: SIGTERM)
    public static let child = Self(rawValue: SIGCHLD)
    public static let resume = Self(rawValue: SIGCONT)
    public static let stop = Self(rawValue: SIGSTOP)
    public static let terminalStop = Self(rawValue: SIGTSTP)
    public static let windowChange = Self(rawValue: SIGWINCH)

    /// Has this process ignore the signal; a program that it executes ignores it as well.
    ///
    /// The corresponding call is `sigaction` with `SIG_IGN`.
    public func ignore() throws(SystemCallError) {
        try checked("sigaction", clinux_ignore_signal(rawValue), operand: description)
    }
}

/// A set of signals; bit n-1 stands for signal n, as in `/proc/PID/status`.
public struct SignalSet: RawRepresentable, Hashable, Sendable, ExpressibleByArrayLiteral {
    /// The bits.
    public var rawValue: UInt64

    /// Wraps the kernel's bits.
    public init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    /// The set of these signals.
    public init(arrayLiteral signals: Signal...) {
        self.init(signals)
    }

    /// The set of these signals; numbers outside of 1 to 64 are left out.
    public init(_ signals: some Sequence<Signal>) {
        rawValue = signals.reduce(0) { bits, signal in
            (1...64).contains(signal.rawValue) ? bits | (1 << UInt64(signal.rawValue - 1)) : bits
        }
    }

    /// Whether the signal is in the set.
    public func contains(_ signal: Signal) -> Bool {
        (1...64).contains(signal.rawValue) && rawValue & (1 << UInt64(signal.rawValue - 1)) != 0
    }

    /// The signals that the calling thread blocks.
    public static var blocked: SignalSet {
        var old: UInt64 = 0
        // SAFETY: the kernel writes one word that lives during the call, which cannot fail with these arguments.
        _ = unsafe clinux_signal_mask(SIG_BLOCK, 0, &old)
        return SignalSet(rawValue: old)
    }

    /// The signals that are pending for the calling thread or its process.
    public static var pending: SignalSet {
        var set: UInt64 = 0
        // SAFETY: the kernel writes one word that lives during the call, which cannot fail with these arguments.
        _ = unsafe clinux_signal_pending(&set)
        return SignalSet(rawValue: set)
    }

    /// Adds the set to what the calling thread blocks, and with it the threads that it starts from now on.
    ///
    /// - Returns: what was blocked before, for ``restore()``.
    ///
    /// The corresponding call is `rt_sigprocmask`.
    @discardableResult
    public func block() throws(SystemCallError) -> SignalSet {
        try change(SIG_BLOCK)
    }

    /// Makes the set what the calling thread blocks.
    ///
    /// The corresponding call is `rt_sigprocmask`.
    @discardableResult
    public func restore() throws(SystemCallError) -> SignalSet {
        try change(SIG_SETMASK)
    }

    private func change(_ how: Int32) throws(SystemCallError) -> SignalSet {
        var old: UInt64 = 0
        // SAFETY: the kernel writes one word that lives during the call.
        try checked("rt_sigprocmask", unsafe clinux_signal_mask(how, rawValue, &old))
        return SignalSet(rawValue: old)
    }
}
