// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import ProcessTrace
internal import Userfaultfd

extension WriteProtectRounds {
    /// Makes a userfaultfd of the process and registers its mappings.
    ///
    /// - Throws: ``TrackingError``; everything is undone then, because the userfaultfd is closed.
    static func begin(
        _ pid: Int32,
        _ strategy: TrackerStrategy,
        _ scope: TrackingScope,
        _ timeout: Duration
    ) throws(TrackingError) -> WriteProtectRounds {
        let process = try TrackingError.translatingCall(pid, "find") { () throws(SystemCallError) in
            try ProcessDescriptor(pid: pid)
        }
        let isSync = strategy == .writeProtectSync
        // Where nothing is delivered a userfaultfd need not be able to deliver the kernel's own faults, and any process may have it.
        let uffd = try adopt(
            try InjectedUserfaultfd.make(in: process, pid, isSync ? .full : .userModeOnly, timeout: timeout),
            isSync ? .deliveredWrites : .writeTracking
        )
        // Before anything is armed.
        let resolver = isSync ? try resolver(pid, uffd) : nil
        let rounds: WriteProtectRounds
        do {
            rounds = try WriteProtectRounds(
                pid: pid,
                process: process,
                scope: scope,
                uffd: uffd,
                arming: isSync ? .ioctl : .scan,
                queries: PageQueries(knowsGuards: true),
                // Where a mapping is registered cannot be asked for, and one that is not hides its holes.
                seesHoles: !isSync,
                resolver: resolver
            )
        } catch {
            throw TrackingError.of(error, pid: pid, doing: "look at the pages of")
        }
        try rounds.registerAll()
        return rounds
    }

    private static func adopt(
        _ descriptor: consuming OwnedDescriptor,
        _ features: UserfaultFeatures
    ) throws(TrackingError) -> Userfaultfd {
        do { return try Userfaultfd.adopt(descriptor, features: features) } catch {
            let what =
                features.contains(.writeProtectAsync) ? "asynchronous write protection: Linux 6.7" : "write protection"
            throw TrackingError(.unavailable, "this kernel has no \(what)", cause: error)
        }
    }

    private static func resolver(_ pid: Int32, _ uffd: borrowing Userfaultfd) throws(TrackingError) -> FaultResolver {
        do { return try FaultResolver(pid: pid, uffd.duplicate()) } catch {
            throw TrackingError(.systemCall, "cannot start a thread for the writes of process \(pid)", cause: error)
        }
    }
}
