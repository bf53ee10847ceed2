// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import ProcessTrace
internal import Reporting

/// What a page server writes down of its session, so that its end leaves nothing to guess: one small file a process.
///
/// A process is named by its id, its start time and the boot, so that nothing is ever done to another one of the same number.
public struct SessionRecord: Equatable, Sendable {
    /// How far the session is.
    public enum State: String, Sendable, CaseIterable {
        /// The process is stopped, and no copy may run: without its page server it runs on.
        case frozen
        /// The grant may have been sent: a copy may run, and needs pages of this process.
        case granted
        /// The copy has every page and is the only one.
        case complete
    }

    /// A process for ever, not only as long as it lives.
    public struct ProcessName: Equatable, Sendable {
        /// Its id, as the page server saw it.
        public var pid: Int32
        /// In clock ticks since the boot.
        public var startTime: UInt64

        /// Names a process by its parts.
        public init(pid: Int32, startTime: UInt64) {
            self.pid = pid
            self.startTime = startTime
        }

        /// The living process of this id; nil when there is none.
        public init?(living pid: Int32) {
            guard let stat = try? ProcessStat.read(pid), stat.state != "Z", stat.state != "X" else { return nil }
            self.init(pid: pid, startTime: stat.startTime)
        }
    }

    /// How far the session is.
    public var state: State
    /// The source process.
    public var process: ProcessName
    /// The page server.
    public var server: ProcessName
    /// The session, for people: not the secret, and nothing of it.
    public var session: String
    /// The destination.
    public var peer: String
    /// `boot_id` of the kernel.
    public var boot: String

    /// The largest file that is read.
    static let maximumBytes = 4096
    private static let header = "thaw-session 1"

    /// 16 hexadecimal digits that name a session without telling its secret.
    static func name(of identifier: [UInt8]) -> String {
        SHA256.digest(of: identifier).prefix(8)
            .map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    /// `boot_id` of the running kernel.
    static func presentBoot() throws(SessionFailure) -> String {
        do throws(SystemCallError) {
            let bytes = try FileReading.read("/proc/sys/kernel/random/boot_id")
            return String(decoding: bytes.filter { $0 > 0x20 && $0 < 0x7f }, as: UTF8.self)
        } catch {
            throw SessionFailure(.systemCall, "\(error)")
        }
    }

    /// The file's contents.
    package var text: String {
        """
        \(Self.header)
        state \(state.rawValue)
        pid \(process.pid)
        start \(process.startTime)
        server \(server.pid)
        server-start \(server.startTime)
        session \(session)
        boot \(boot)
        peer \(Self.oneLine(peer))

        """
    }

    private static func oneLine(_ text: String) -> String {
        String(text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7f ? " " : Character($0) })
    }

    init(
        state: State,
        process: ProcessName,
        server: ProcessName,
        session: String,
        peer: String,
        boot: String
    ) {
        self.state = state
        self.process = process
        self.server = server
        self.session = session
        self.peer = peer
        self.boot = boot
    }

    /// Reads the contents of a file; nil when they are no record.
    package init?(_ text: String) {
        var values: [Substring: Substring] = [:]
        let lines = text.split(separator: "\n")
        guard lines.first.map(String.init) == Self.header else { return nil }
        for line in lines.dropFirst() {
            guard let blank = line.firstIndex(of: " ") else { return nil }
            let (key, value) = (line[..<blank], line[line.index(after: blank)...])
            guard values.updateValue(value, forKey: key) == nil else { return nil }
        }
        guard let state = values["state"].flatMap({ State(rawValue: String($0)) }),
            let pid = values["pid"].flatMap({ Int32($0) }), pid > 0,
            let start = values["start"].flatMap({ UInt64($0) }),
            let server = values["server"].flatMap({ Int32($0) }), server > 0,
            let serverStart = values["server-start"].flatMap({ UInt64($0) }), let session = values["session"],
            let boot = values["boot"], let peer = values["peer"]
        else { return nil }
        self.init(
            state: state,
            process: ProcessName(pid: pid, startTime: start),
            server: ProcessName(pid: server, startTime: serverStart),
            session: String(session),
            peer: String(peer),
            boot: String(boot)
        )
    }
}

/// Writes the record of one page server.
final class SessionRecorder: Sendable {
    /// Only its owner may know who is moved where.
    private static let folderPermissions: UInt32 = 0o700
    private static let filePermissions: UInt32 = 0o600

    private let path: String
    private let process: SessionRecord.ProcessName
    private let server: SessionRecord.ProcessName
    private let boot: String

    /// Prepares a record; the folder is made if it is not there, and proved to be writable.
    ///
    /// - Throws: SessionFailure: a record that cannot be written is known before anything has happened.
    init(folder: String, pid: Int32) throws(SessionFailure) {
        guard let process = SessionRecord.ProcessName(living: pid) else {
            throw SessionFailure(.notFound, "process \(pid) has ended")
        }
        guard let server = SessionRecord.ProcessName(living: getpid()) else {
            throw SessionFailure(.bug, "this program does not find itself in /proc")
        }
        self.process = process
        self.server = server
        boot = try SessionRecord.presentBoot()
        path = SessionFolder.path(of: pid, in: folder)
        try Self.requireSettled(path, process, boot)
        do throws(SystemCallError) {
            try Folder.make(folder, permissions: Self.folderPermissions)
            try Folder.remove(path)
            try AtomicFile.write([], to: path + ".probe", permissions: Self.filePermissions)
            try Folder.remove(path + ".probe")
        } catch {
            let code: ExitCode = error.errno == .access || error.errno == .perm ? .permission : .systemCall
            throw SessionFailure(
                code,
                "the session cannot be recorded in \"\(folder)\": \(error). Name another folder with --record, or give --no-record"
            )
        }
    }

    /// A process that was granted may run elsewhere: it is not offered again before somebody has said what becomes of it.
    private static func requireSettled(
        _ path: String,
        _ process: SessionRecord.ProcessName,
        _ boot: String
    ) throws(SessionFailure) {
        guard let earlier = SessionFolder.record(at: path), earlier.process == process, earlier.boot == boot,
            earlier.state != .frozen
        else { return }
        throw SessionFailure(
            .refused,
            "process \(process.pid) was granted to \(earlier.peer) in session \(earlier.session), and its copy may run: "
                + "settle that first (thaw status, thaw settle)"
        )
    }

    /// Puts this state in place of what was written before; it is on the disk when this returns.
    func write(_ state: SessionRecord.State, session: String, peer: String) throws(SessionFailure) {
        let record = SessionRecord(
            state: state,
            process: process,
            server: server,
            session: session,
            peer: peer,
            boot: boot
        )
        do throws(SystemCallError) {
            try FaultPoint.check(.recordWritten)
            try AtomicFile.write(Array(record.text.utf8), to: path, permissions: Self.filePermissions, .onDisk)
        } catch {
            throw SessionFailure(.systemCall, "the session could not be recorded: \(error)")
        }
    }

    /// There is nothing to settle: the process runs on.
    func remove() {
        try? Folder.remove(path)
    }
}
