// SPDX-License-Identifier: Apache-2.0
#if FaultInjection
internal import Glibc
#endif

/// Places at which a test can have this program fail, one at every change of state.
///
/// Only a program that was built with the package trait `FaultInjection` asks anybody; in every other one ``hit(_:)`` and
/// ``check(_:)`` are nothing. `Tests/Faults/run` says what happens at each of them.
public enum FaultPoint: CaseIterable, Sendable {
    // The page server, in order.
    case sourceControlArrived, sourcePreCopyRound, sourcePreCopied
    case sourceFrozen, sourceDescribed, sourceBuiltArrived
    case sourceGrantNoted, sourceGrantCommitted, sourceGrantSent, sourceRunningArrived
    case sourceFaultAnswered, sourceMapSent, sourcePagesStreamed, sourceDrained
    case sourceCompleteArrived, sourceCompletionNoted, sourceAcknowledged, sourceDisposed
    case sourceControlReturned, sourceResumed
    // The restorer, in order.
    case destinationGreeted, destinationConnected, destinationPreCopyRound
    case destinationDescribed, destinationBegun, destinationBuilt, destinationBuiltSent, destinationGrantArrived
    case destinationReleased, destinationRunningSent
    case destinationFaultRequested, destinationFaultInstalled, destinationMapArrived, destinationPagesStreamed
    case destinationResident, destinationGuardianReleased, destinationCompleteSent, destinationAcknowledged
    case destinationReconnecting, destinationResumeAsked, destinationResumed
    // Either one, before a call of the kernel that may fail.
    case recordWritten, threadStarted, bufferMade

    #if !FaultInjection
    /// The program is at this place.
    @inlinable
    @inline(__always)
    public static func hit(_ point: FaultPoint) {}

    /// The program is at this place, and about to do what the kernel may refuse.
    @inlinable
    @inline(__always)
    public static func check(_ point: FaultPoint) throws(SystemCallError) {}

    /// This program stands in for one that has failed as it was planned to.
    @inlinable
    @inline(__always)
    public static func forgetPlan() {}
    #endif
}

#if FaultInjection
// `THAW_FAULTS=point@hit=action,…`: what happens when this program is at a place for the nth time. Actions: kill, stop (until somebody
// sends SIGCONT), close and half-close (all TCP connections, or with :n the nth one by descriptor), delay:milliseconds, errno:number.
extension FaultPoint {
    private static let plan = FaultPlan(EnvironmentVariable.text("THAW_FAULTS") ?? "")

    /// This program stands in for one that has failed as it was planned to.
    ///
    /// To be called before the first place is come to.
    public static func forgetPlan() {
        // SAFETY: called before the first thread, so nobody changes the environment meanwhile.
        unsafe unsetenv("THAW_FAULTS")
    }

    /// The program is at this place.
    public static func hit(_ point: FaultPoint) {
        _ = plan.arrived(at: point)
    }

    /// The program is at this place, and about to do what the kernel may refuse.
    public static func check(_ point: FaultPoint) throws(SystemCallError) {
        if let errno = plan.arrived(at: point) { throw SystemCallError("\(point)", errno, operand: "a planned fault") }
    }
}

private final class FaultPlan: Sendable {
    private enum Action: Sendable {
        case kill, stop
        case close(Int?)
        case halfClose(Int?)
        case delay(UInt32)
        case fail(Errno)

        init?(_ text: Substring) {
            let words = text.split(separator: ":")
            let number = words.count > 1 ? Int(words[1]) : nil
            switch words.first {
            case "kill": self = .kill
            case "stop": self = .stop
            case "close": self = .close(number)
            case "half-close": self = .halfClose(number)
            case "delay": self = .delay(UInt32(number ?? 500))
            case "errno": self = .fail(Errno(rawValue: Int32(number ?? 12)))
            default: return nil
            }
        }
    }

    private struct Fault: Sendable {
        let point: String
        let hit: Int
        let action: Action
    }

    private let faults: [Fault]
    private let hits = Lock<[FaultPoint: Int]>([:])

    init(_ text: String) {
        faults = text.split(separator: ",").map { word in
            let parts = word.split(whereSeparator: { $0 == "@" || $0 == "=" })
            guard parts.count == 3, let hit = Int(parts[1]), let action = Action(parts[2]),
                FaultPoint.allCases.contains(where: { "\($0)" == parts[0] })
            else { preconditionFailure("THAW_FAULTS: '\(word)' is not point@hit=action") }
            return Fault(point: String(parts[0]), hit: hit, action: action)
        }
    }

    /// Does what was planned; the error that the next call of the kernel is to have.
    func arrived(at point: FaultPoint) -> Errno? {
        guard !faults.isEmpty else { return nil }
        let count = hits.withLock { hits in
            hits[point, default: 0] += 1
            return hits[point, default: 0]
        }
        var failure: Errno?
        for fault in faults where fault.hit == count && fault.point == "\(point)" {
            Self.say(fault.point)
            switch fault.action {
            case .kill: Glibc.kill(getpid(), SIGKILL)
            case .stop: Glibc.kill(getpid(), SIGSTOP)
            case .close(let index): Self.shutDown(index, Int32(SHUT_RDWR))
            case .halfClose(let index): Self.shutDown(index, Int32(SHUT_WR))
            case .delay(let milliseconds): usleep(milliseconds * 1000)
            case .fail(let errno): failure = errno
            }
        }
        return failure
    }

    /// For the driver, which counts faults that came to pass.
    private static func say(_ point: String) {
        let line = Array("fault: \(point)\n".utf8)
        try? DescriptorIO.write(line, to: STDERR_FILENO)
    }

    private static func shutDown(_ index: Int?, _ how: Int32) {
        var number = 0
        for descriptor in Int32(3)..<1024 where isConnected(descriptor) {
            if index == nil || index == number { shutdown(descriptor, how) }
            number += 1
        }
    }

    private static func isConnected(_ descriptor: Int32) -> Bool {
        var address = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        // SAFETY: room for an address of any family that lives during the call.
        let result = unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe getpeername(descriptor, $0, &length)
            }
        }
        return result == 0 && [AF_INET, AF_INET6].contains(Int32(address.ss_family))
    }
}
#endif
