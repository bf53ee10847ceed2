// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import LazyPages
internal import LinuxSystem
internal import Logging
internal import Paging
internal import ProcessTrace
internal import Synchronization
internal import Userfaultfd

/// Installs guard pages (MADV_GUARD_INSTALL) in the process while it runs: those that the source found too late for the grant.
///
/// Only the process itself can install them, so it is stopped for a moment and made to. A thread that waits for a page inside of a system
/// call cannot be stopped before the page comes. When it waits for one that has to become a guard, it gets EFAULT as it would from a
/// guard, and from then on who touches those pages gets SIGBUS instead of SIGSEGV.
final class GuardInstaller: Sendable {
    /// How often the process is told to stop.
    private static let attempts = 10
    /// How long all its threads may take for it the first time, and how much longer each time: pages that they wait for come meanwhile.
    private static let stopTime = Duration.milliseconds(100)
    /// MADV_GUARD_INSTALL.
    private static let guardInstall: UInt64 = 102

    private let memory: LazyMemory
    private let pid: Int32
    private let journal: EventJournal?
    private let logger: Logger
    private let isAtWork = Atomic<Bool>(false)

    init(memory: LazyMemory, pid: Int32, journal: EventJournal? = nil, logger: Logger) {
        self.journal = journal
        self.memory = memory
        self.pid = pid
        self.logger = logger
    }

    /// Whether its thread may be stopping the process.
    var isWorking: Bool { isAtWork.load(ordering: .acquiring) }

    /// Installs what is owed, on a thread of its own; one at a time.
    ///
    /// Signals `lateGuards` of the memory when it has ended.
    func start(_ shared: RestoreShared) throws(SystemCallError) {
        guard !isAtWork.exchange(true, ordering: .acquiringAndReleasing) else { return }
        do throws(SystemCallError) {
            try shared.start("guards-\(pid)") { [self] in
                installAll()
                isAtWork.store(false, ordering: .releasing)
                // Something may have come behind the last look, and somebody may wait for this end.
                memory.lateGuards.signal()
            }
        } catch {
            isAtWork.store(false, ordering: .releasing)
            throw error
        }
    }

    private func installAll() {
        var attempt = 0
        while memory.with(.fault, { $0.processOwesGuards && (attempt == 0 || !$0.systemCallsWaitForGuards) }),
            attempt < Self.attempts
        {
            attempt += 1
            installOnThreadOfItsOwn(within: Self.stopTime * attempt)
        }
        do throws(SystemCallError) {
            let poisoned = try memory.settleGuards { state throws(SystemCallError) in
                let poisoned = try state.poisonGuards()
                try state.poisonGuardsOfChildren()
                return poisoned
            }
            guard !poisoned.isEmpty else { return }
            logger.warning(
                "The process could not be stopped to install its newest guard pages; they raise SIGBUS and not SIGSEGV",
                metadata: ["ranges": "\(poisoned)"]
            )
        } catch {
            logger.error("Guard pages cannot be installed; who touches one waits", metadata: ["reason": "\(error)"])
        }
    }

    /// The kernel lets go of a thread that could not be stopped when its tracer ends, and not before.
    private func installOnThreadOfItsOwn(within limit: Duration) {
        journal?.setAtWork(true)
        defer { journal?.setAtWork(false) }
        do throws(SystemCallError) {
            try NamedThread("guards-\(pid)") { [self] in
                do { try install(within: limit) } catch { failed(error) }
            }.join()
        } catch {
            failed(error)
        }
    }

    private func failed(_ error: any Error) {
        logger.warning(
            "Guard pages are not installed yet; who touches one waits, or gets SIGBUS",
            metadata: ["reason": "\(error)"]
        )
    }

    /// Stops the process, and installs what it owes then.
    private func install(within limit: Duration) throws {
        let stopped = try StoppedProcess.stop(pid, timeout: limit)
        // Poison can be put only into memory that is still that of the process and still what it was: only there guards follow.
        let ranges = try memory.settleGuards { state throws(SystemCallError) in try state.poisonGuards() }
        for range in ranges {
            let call = InjectedCall(SYS_madvise, [range.lowerBound.rawValue, range.byteCount, Self.guardInstall])
            let result = try stopped.injector.call(call, on: stopped.group.leader)
            guard result == 0 else {
                throw SystemCallError("madvise", Errno(rawValue: Int32(-result)), operand: "guard pages at \(range)")
            }
        }
        try stopped.letGo()
    }
}
