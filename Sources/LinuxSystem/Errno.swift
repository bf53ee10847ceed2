// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// An error number of the kernel, see errno(3).
public struct Errno: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// The positive number.
    public let rawValue: Int32

    /// Wraps a positive number.
    public init(rawValue: Int32) {
        self.rawValue = rawValue
    }

    /// The text of strerror(3) with the number.
    public var description: String {
        // SAFETY: since glibc 2.32 the text of strerror(3) is constant or belongs to the calling thread.
        guard let text = unsafe strerror(rawValue) else { return "errno \(rawValue)" }
        // SAFETY: NUL-terminated.
        let message = unsafe String(cString: text)
        return "\(message) (errno \(rawValue))"
    }
}

// Named after the constants of errno(3).
// swift-format-ignore: AllPublicDeclarationsHaveDocumentation
extension Errno {
    public static let perm = Self(rawValue: EPERM)
    public static let noEntry = Self(rawValue: ENOENT)
    public static let noSuchProcess = Self(rawValue: ESRCH)
    public static let interrupted = Self(rawValue: EINTR)
    public static let io = Self(rawValue: EIO)
    public static let badDescriptor = Self(rawValue: EBADF)
    public static let noChild = Self(rawValue: ECHILD)
    public static let again = Self(rawValue: EAGAIN)
    public static let noMemory = Self(rawValue: ENOMEM)
    public static let access = Self(rawValue: EACCES)
    public static let fault = Self(rawValue: EFAULT)
    public static let busy = Self(rawValue: EBUSY)
    public static let exists = Self(rawValue: EEXIST)
    public static let notDirectory = Self(rawValue: ENOTDIR)
    public static let invalid = Self(rawValue: EINVAL)
    public static let tooManyFiles = Self(rawValue: EMFILE)
    public static let noSpace = Self(rawValue: ENOSPC)
    public static let brokenPipe = Self(rawValue: EPIPE)
    public static let notSupported = Self(rawValue: EOPNOTSUPP)
    public static let noSystemCall = Self(rawValue: ENOSYS)
    public static let connectionRefused = Self(rawValue: ECONNREFUSED)
    public static let connectionReset = Self(rawValue: ECONNRESET)
    public static let timedOut = Self(rawValue: ETIMEDOUT)
    public static let addressInUse = Self(rawValue: EADDRINUSE)
    public static let inProgress = Self(rawValue: EINPROGRESS)
}
