// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import ProcessTrace
public import Reporting

/// The records of all page servers of a machine, and what can be done about a process that one of them has left behind.
public struct SessionFolder: Sendable {
    /// Where records are kept unless somebody says otherwise.
    public static let standard = "/run/thaw"
    private static let suffix = ".session"
    /// How long the kernel may take to end a process.
    private static let patience = Duration.seconds(10)

    private let path: String

    /// The records in a folder.
    public init(_ path: String = SessionFolder.standard) {
        self.path = path
    }

    static func path(of pid: Int32, in folder: String) -> String { "\(folder)/\(pid)\(suffix)" }

    static func record(at path: String) -> SessionRecord? {
        guard let bytes = try? FileReading.read(path, limit: SessionRecord.maximumBytes) else { return nil }
        return SessionRecord(String(decoding: bytes, as: UTF8.self))
    }

    /// What is recorded, by process id, and what has become of each.
    ///
    /// - Throws: ``SessionFailure`` when the folder cannot be read; one that is not there holds nothing.
    public func sessions() throws(SessionFailure) -> [RecordedSession] {
        let names: [String]
        do throws(SystemCallError) {
            names = try Folder.names(in: path)
        } catch {
            if error.errno == .noEntry { return [] }
            throw SessionFailure(error.errno == .access ? .permission : .systemCall, "\(error)")
        }
        let boot = try SessionRecord.presentBoot()
        return names.filter { $0.hasSuffix(Self.suffix) }
            .compactMap { Self.record(at: "\(path)/\($0)") }
            .map { RecordedSession($0, boot: boot) }
            .sorted { $0.record.process.pid < $1.record.process.pid }
    }

    /// The session of this process id or with this name.
    ///
    /// - Throws: ``SessionFailure`` with `notFound` when there is none.
    public func session(named selector: String) throws(SessionFailure) -> RecordedSession {
        let found = try sessions().filter {
            $0.record.session == selector || String($0.record.process.pid) == selector
        }
        guard let session = found.first, found.count == 1 else {
            throw SessionFailure(
                .notFound,
                "there is no session \"\(selector)\" in \"\(path)\"; thaw status lists them"
            )
        }
        return session
    }

    /// Does what an operator has decided, and forgets the session.
    ///
    /// - Parameters:
    ///   - session: what is recorded.
    ///   - decision: what becomes of the process.
    ///   - isForced: the operator knows that a copy may run, or that the process does.
    /// - Returns: what was done, in a sentence.
    /// - Throws: ``SessionFailure`` with `refused` when that would make two running copies, or end a process that runs.
    public func settle(
        _ session: RecordedSession,
        _ decision: Settlement,
        isForced: Bool
    ) throws(SessionFailure) -> String {
        let record = session.record
        let pid = record.process.pid
        guard !session.isServed else {
            throw SessionFailure(
                .refused,
                "page server \(record.server.pid) still serves process \(pid): it is to end first (SIGTERM, twice while the "
                    + "destination is connected)"
            )
        }
        do {
            let words = try Self.carryOut(decision, on: session, isForced: isForced)
            try Folder.remove(Self.path(of: pid, in: path))
            return words
        } catch let failure as SessionFailure {
            throw failure
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
    }

    private static func carryOut(
        _ decision: Settlement,
        on session: RecordedSession,
        isForced: Bool
    ) throws -> String {
        let record = session.record
        let pid = record.process.pid
        guard session.processState != .gone else {
            guard decision == .drop else {
                throw SessionFailure(.notFound, "process \(pid) has ended; --drop forgets its session")
            }
            return "process \(pid) had ended; its session is forgotten"
        }
        // From here on the number cannot come to mean another process unnoticed.
        let process = try ProcessDescriptor(pid: pid)
        guard SessionRecord.ProcessName(living: pid) == record.process else {
            throw SessionFailure(.notFound, "process \(pid) has ended")
        }
        switch decision {
        case .thaw:
            guard record.state == .frozen || isForced else {
                throw SessionFailure(.refused, session.whyNotThaw)
            }
            try process.send(.resume)
            return "process \(pid) runs on"
        case .drop:
            guard session.processState == .stopped || isForced else {
                throw SessionFailure(.refused, "process \(pid) is not stopped; --force ends it all the same")
            }
            try process.send(.kill)
            guard try process.waitForEnd(until: .after(patience)) else {
                throw SessionFailure(.systemCall, "process \(pid) has been killed and has not ended yet")
            }
            return "process \(pid) has been ended"
        }
    }
}

/// What becomes of a process whose page server is gone.
public enum Settlement: Sendable {
    /// It runs on here.
    case thaw
    /// It is ended.
    case drop
}

/// A record, and what is the case now.
public struct RecordedSession: Sendable {
    /// What has become of the process.
    public enum ProcessState: String, Sendable {
        /// It has ended, perhaps with its machine.
        case gone
        /// It is stopped, by its page server or by a signal.
        case stopped
        /// It is not.
        case runs
    }

    /// What was written down.
    public let record: SessionRecord
    /// What has become of the process.
    public let processState: ProcessState
    /// Whether its page server is at work.
    public let isServed: Bool

    init(_ record: SessionRecord, boot: String) {
        self.record = record
        let isThisBoot = record.boot == boot
        isServed = isThisBoot && SessionRecord.ProcessName(living: record.server.pid) == record.server
        guard isThisBoot, SessionRecord.ProcessName(living: record.process.pid) == record.process,
            let stat = try? ProcessStat.read(record.process.pid)
        else {
            processState = .gone
            return
        }
        processState = stat.state == "T" || stat.state == "t" ? .stopped : .runs
    }

    /// What an operator can do now.
    public var advice: String {
        let pid = record.process.pid
        if isServed { return "wait: page server \(record.server.pid) is at work" }
        switch (processState, record.state) {
        case (.gone, _): return "forget it: thaw settle \(pid) --drop"
        case (.runs, .frozen): return "nothing: it runs on; thaw settle \(pid) --thaw forgets the session"
        case (_, .frozen): return "let it run on: thaw settle \(pid) --thaw"
        case (_, .granted):
            return
                "end the copy and its restorer at the destination first, if there are any: then thaw settle \(pid) --thaw --force; "
                + "or end this one: thaw settle \(pid) --drop"
        case (_, .complete): return "end it, its copy has everything: thaw settle \(pid) --drop"
        }
    }

    var whyNotThaw: String {
        let pid = record.process.pid
        let copy =
            record.state == .complete
            ? "its copy at \(record.peer) has everything and is the one that runs"
            : "it was granted to \(record.peer), and a copy may run or be let go there"
        return "process \(pid) is not let run: \(copy). End the copy and its restorer first, then add --force"
    }
}
