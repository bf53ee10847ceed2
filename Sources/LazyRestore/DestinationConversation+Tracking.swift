// SPDX-License-Identifier: Apache-2.0
internal import DirtyTracking
internal import LazyPages
internal import LinuxSystem
internal import Logging
internal import Reporting
internal import Restore

// A process that stays tracked: its pages arrive clean, and what it writes from then on is told.
extension DestinationConversation {
    private static let interval = Duration.seconds(1)

    /// - Throws: ``SessionFailure`` when the kernel cannot do what tracking needs.
    static func requireTracking(_ support: TrackerSupport = .probe()) throws(SessionFailure) {
        guard case .unavailable(let reason, let remedy) = support.writeProtectAsync else { return }
        throw SessionFailure(.unavailable, "'--track' cannot be used: \(reason); \(remedy)")
    }

    /// What was written while the process was built is no write of its own.
    func startClean(_ partial: PartialProcess) throws(SessionFailure) {
        do throws(TrackingError) {
            try WrittenPages(partial.pid).forget()
        } catch {
            throw SessionFailure(ExitCode(rawValue: error.code.rawValue) ?? .bug, error.description)
        }
    }

    /// Every page is there and nobody reads events any more: takes the process over, if it still lives.
    func watchWrites() {
        guard exitStatus == nil, let space = memory?.with(.fault, { $0.handle(of: .process) }) else { return }
        do {
            watch = try WriteWatch(space, pid: statistics.pid, logger: logger)
        } catch {
            logger.error("The process is not tracked any more", metadata: ["reason": "\(error)"])
        }
    }

    /// Tells how much has been written when that has changed.
    func lookAtWrites() {
        guard let watch else { return }
        nextLook = .after(Self.interval)
        guard let pages = watch.count(), pages != statistics.written else { return }
        statistics.written = pages
        report(.written(pages: pages))
    }
}
