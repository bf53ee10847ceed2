// SPDX-License-Identifier: Apache-2.0
public import LinuxSystem

/// What is wrong with certificate files, with a peer, or with a connection.
public struct TLSError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What kind of failure.
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        fileprivate enum Value: Hashable, Sendable {
            case notConfigured, badName
            case missing, unreadable, notAFile, exposed, malformed, encrypted, mismatch, expired, notYetValid, untrusted
            case wrongPurpose, revoked, staleRevocations
            case peerWithoutCertificate, peerUntrusted, peerSelfSigned, peerExpired, peerNotYetValid, peerRevoked
            case peerRevocationUnknown, peerNameMismatch, peerWrongPurpose, peerRejected, peerNotAllowed
            case rejectedByPeer, versionMismatch, protocolViolation
            case closed, truncated, reset, timedOut, interrupted
            case systemCall, library
        }

        fileprivate let value: Value

        fileprivate init(_ value: Value) {
            self.value = value
        }

        /// The name of the case.
        public var description: String { "\(value)" }
    }

    /// What kind of failure.
    public let code: Code
    /// What is wrong, with which object.
    public let message: String
    /// What to do about it.
    public let remedy: String?
    /// The system call that failed, if one did.
    public let cause: SystemCallError?
    /// OpenSSL's own words, innermost first.
    public let details: [String]

    init(
        _ code: Code,
        _ message: String,
        remedy: String? = nil,
        cause: SystemCallError? = nil,
        details: [String] = []
    ) {
        self.code = code
        self.message = message
        self.remedy = remedy
        self.cause = cause
        self.details = details
    }

    /// Message, cause and remedy in one line.
    public var description: String {
        var text = message
        if let cause { text += ": \(cause)" }
        if let detail = details.first, cause == nil { text += " (\(detail))" }
        if let remedy { text += ". \(remedy)" }
        return text
    }
}

extension TLSError.Code {
    // Files of this side.

    /// Neither a folder nor single files were given.
    public static let notConfigured = Self(.notConfigured)
    /// A name to allow or to expect is not a name.
    public static let badName = Self(.badName)
    /// A file does not exist.
    public static let missing = Self(.missing)
    /// A file must not be read by anybody, or not by this user.
    public static let unreadable = Self(.unreadable)
    /// A path names something other than a regular file.
    public static let notAFile = Self(.notAFile)
    /// Others than the owner may read or change the private key.
    public static let exposed = Self(.exposed)
    /// A file holds no PEM of the kind expected.
    public static let malformed = Self(.malformed)
    /// The private key wants a password.
    public static let encrypted = Self(.encrypted)
    /// Certificate and private key do not belong together.
    public static let mismatch = Self(.mismatch)
    /// A certificate of this side has expired.
    public static let expired = Self(.expired)
    /// A certificate of this side is not valid yet.
    public static let notYetValid = Self(.notYetValid)
    /// The certificate of this side was not issued by the CA in its own folder.
    public static let untrusted = Self(.untrusted)
    /// The certificate of this side is not made for this role.
    public static let wrongPurpose = Self(.wrongPurpose)
    /// The certificate of this side is on the revocation list.
    public static let revoked = Self(.revoked)
    /// The revocation list is out of date, or none of the CA.
    public static let staleRevocations = Self(.staleRevocations)

    // The other side.

    /// The other side has shown no certificate.
    public static let peerWithoutCertificate = Self(.peerWithoutCertificate)
    /// The certificate of the other side was not issued by our CA.
    public static let peerUntrusted = Self(.peerUntrusted)
    /// The certificate of the other side was issued by nobody but itself.
    public static let peerSelfSigned = Self(.peerSelfSigned)
    /// The certificate of the other side has expired.
    public static let peerExpired = Self(.peerExpired)
    /// The certificate of the other side is not valid yet.
    public static let peerNotYetValid = Self(.peerNotYetValid)
    /// The certificate of the other side is on the revocation list.
    public static let peerRevoked = Self(.peerRevoked)
    /// The revocation list does not tell about the certificate of the other side.
    public static let peerRevocationUnknown = Self(.peerRevocationUnknown)
    /// The certificate of the other side does not carry the name expected.
    public static let peerNameMismatch = Self(.peerNameMismatch)
    /// The certificate of the other side is not made for its role.
    public static let peerWrongPurpose = Self(.peerWrongPurpose)
    /// The certificate of the other side is wrong in another way.
    public static let peerRejected = Self(.peerRejected)
    /// The other side is authentic and not on the allow list.
    public static let peerNotAllowed = Self(.peerNotAllowed)
    /// The other side refuses us.
    public static let rejectedByPeer = Self(.rejectedByPeer)
    /// The other side speaks another version of TLS, or no TLS.
    public static let versionMismatch = Self(.versionMismatch)
    /// The other side breaks the rules of TLS, or what it sent was changed on its way.
    public static let protocolViolation = Self(.protocolViolation)

    // The connection.

    /// The other side has ended the connection properly while more was expected.
    public static let closed = Self(.closed)
    /// The connection ended without the end mark of TLS: somebody has cut it.
    public static let truncated = Self(.truncated)
    /// The connection was reset, or its other machine is gone.
    public static let reset = Self(.reset)
    /// The deadline has passed.
    public static let timedOut = Self(.timedOut)
    /// Another thread has asked to stop waiting.
    public static let interrupted = Self(.interrupted)
    /// A system call failed that should not have.
    public static let systemCall = Self(.systemCall)
    /// OpenSSL failed in a way that should not happen.
    public static let library = Self(.library)
}

extension TLSError {
    /// Whether the connection is gone for reasons outside of both programs, so that another one can be tried.
    public var isConnectionLoss: Bool {
        switch code.value {
        case .closed, .truncated, .reset, .timedOut: true
        default: false
        }
    }

    /// The exit code of a command that ends because of this error (see the table of exit codes).
    public var exitCode: Int32 {
        switch code.value {
        case .notConfigured, .badName: 64
        case .missing: 66
        case .unreadable: 77
        case .notAFile, .exposed, .malformed, .encrypted, .mismatch, .expired, .notYetValid, .untrusted, .wrongPurpose,
            .revoked, .staleRevocations:
            65
        case .peerWithoutCertificate, .peerUntrusted, .peerSelfSigned, .peerExpired, .peerNotYetValid, .peerRevoked,
            .peerRevocationUnknown, .peerNameMismatch, .peerWrongPurpose, .peerRejected, .peerNotAllowed,
            .rejectedByPeer,
            .versionMismatch, .protocolViolation:
            76
        case .closed, .truncated, .reset, .timedOut, .interrupted: 75
        case .systemCall: 71
        case .library: 70
        }
    }
}
