// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
public import Paging

/// What ``SpawnedProcess`` is asked for.
///
/// Ids are those of the namespace in which the process lives.
public struct SpawnRequest: Sendable {
    /// Own pid and mount namespace with a fresh `/proc`, and an init that reaps.
    public var newPIDNamespace = false
    /// Id of the process.
    public var pid: Int32
    /// Session; 0 for the caller's.
    ///
    /// Other ids than `pid` only count in a new namespace.
    public var session: Int32 = 0
    /// Process group; 0 for the caller's.
    ///
    /// Other ids than `pid` only count in a new namespace.
    public var group: Int32 = 0
    /// Memory that the process maps readable, writable and executable before it waits.
    public var stub: AddressRange
    /// Text for `/proc/self/timens_offsets`, or nil for the caller's time namespace.
    public var timeOffsets: String?

    /// A process in the caller's namespaces, session and group.
    public init(pid: Int32, stub: AddressRange) {
        self.pid = pid
        self.stub = stub
    }
}

/// Why no process was made.
public struct SpawnError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What failed.
    public enum Step: Int32, Sendable {
        case channel = 1
        case namespace, mount, timeNamespace, session, group, process, stub, answer
    }

    /// What failed.
    public let step: Step
    /// The kernel's answer; `EEXIST` at ``Step/process``, ``Step/session`` and ``Step/group`` means that the id is taken.
    public let errno: Errno

    /// A few words.
    public var description: String {
        "\(step): \(errno)"
    }
}

/// A process that waits, all signals blocked, until a tracer makes something of it.
///
/// The corresponding call is `clone3`.
public final class SpawnedProcess {
    private var result: clinux_spawn_result
    private var isReleased = false

    /// The process, as this program sees it.
    public let pid: Int32

    /// The init of the new pid namespace, as this program sees it.
    public var initPID: Int32? {
        result.`init` > 0 ? result.`init` : nil
    }

    /// Readable when ``status()`` may have something new; nil when the process is a child of this program.
    public var channel: Int32? {
        result.channel >= 0 ? result.channel : nil
    }

    /// Makes the process; the calling thread becomes its parent when there is no new namespace.
    public init(_ request: SpawnRequest) throws(SpawnError) {
        var filled = clinux_spawn_result()
        let answer: Int32
        if let offsets = request.timeOffsets {
            // SAFETY: the text lives during the call; nothing keeps the pointer.
            answer = unsafe offsets.withCString { text in
                unsafe Self.spawn(request, timeOffsets: text, result: &filled)
            }
        } else {
            answer = unsafe Self.spawn(request, timeOffsets: nil, result: &filled)
        }
        guard answer == 0 else {
            throw SpawnError(
                step: SpawnError.Step(rawValue: filled.step) ?? .answer,
                errno: Errno(rawValue: -answer)
            )
        }
        result = filled
        pid = filled.pid
    }

    private static func spawn(
        _ request: SpawnRequest,
        timeOffsets: UnsafePointer<CChar>?,
        result: inout clinux_spawn_result
    ) -> Int32 {
        var raw = unsafe clinux_spawn_request()
        unsafe raw.flags = request.newPIDNamespace ? UInt32(CLINUX_SPAWN_NEW_PID_NAMESPACE) : 0
        unsafe raw.pid = request.pid
        unsafe raw.session = request.session
        unsafe raw.group = request.group
        unsafe raw.stub_address = request.stub.lowerBound.rawValue
        unsafe raw.stub_size = request.stub.byteCount
        unsafe raw.time_offsets = timeOffsets
        // SAFETY: both structures live during the call; the children work on copies of this memory.
        return unsafe clinux_spawn(&raw, &result)
    }

    deinit {
        if !isReleased { destroy() }
        reapInit()
        if result.channel >= 0 { Glibc.close(result.channel) }
    }

    /// Takes the init when it ends: at once as a rule, and on a thread of its own where other processes keep it alive.
    ///
    /// A program that lives on, such as one that restores several processes, would keep a zombie of each otherwise.
    private func reapInit() {
        let pid = result.`init`
        guard pid > 0 else { return }
        var word: Int32 = 0
        for _ in 0..<5 {
            // SAFETY: one number that lives during the call.
            guard unsafe clinux_spawn_wait(pid, &word) == 0 else { return }
            usleep(1000)
        }
        // Without a thread the zombie stays until this program ends, which harms nobody.
        try? NamedThread("thaw-reaper") { _ = clinux_guardian_reap(pid) }.detach()
    }

    /// Lets the process outlive this value and this program.
    public func release() throws(SystemCallError) {
        isReleased = true
        guard result.channel >= 0 else { return }
        try checked("send", clinux_spawn_release(result.channel), operand: "to the init of the pid namespace")
    }

    /// Ends the process, and everything in its new pid namespace; waits until it is gone.
    ///
    /// Threads other than the leader that a tracer holds must have been waited for before. Does nothing the second
    /// time.
    public func destroy() {
        isReleased = true
        // SAFETY: one structure that lives during the call.
        unsafe clinux_spawn_destroy(&result)
        result = clinux_spawn_result(pid: 0, init: 0, channel: -1, step: 0)
    }

    /// How the process ended, once it has; does not wait.
    ///
    /// Only one call ever gets the answer.
    ///
    /// - Throws: `EPIPE` when the init of the namespace was killed, `ECHILD` when somebody else has taken the status.
    public func status() throws(SystemCallError) -> ExitStatus? {
        var word: Int32 = 0
        // SAFETY: one number that lives during the call.
        let answer =
            unsafe result.channel >= 0
            ? clinux_spawn_read_status(result.channel, &word)
            : clinux_spawn_wait(pid, &word)
        guard try checked("wait", answer, operand: "process \(pid)") == 1 else { return nil }
        return ExitStatus(waitStatus: word)
    }
}
