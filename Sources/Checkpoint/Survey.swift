// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import LinuxSystem
internal import ProcessTrace

/// Everything that `/proc` tells of a process, in one pass, with what cannot be carried of it.
///
/// Taken while the process runs, and again under the freeze with what was remembered.
struct Survey {
    /// Whether the process stands still.
    enum Phase {
        case running
        case frozen
    }

    let pid: Int32
    let phase: Phase
    let status: ProcessStatus
    let stat: ProcessStat
    /// Thread ids as this program sees them, the leader first, with their status.
    var threads: [(tid: Int32, status: ProcessStatus)] = []
    var mappings: [SurveyedMapping] = []
    /// Whether VmFlags are those of the last look before the freeze.
    var flagsAreRemembered = false
    var descriptors: [SurveyedDescriptor] = []
    /// Descriptors by open file description: indices into `descriptors`.
    var descriptions: [[Int]] = []
    /// Links of pipes and FIFOs that lead to other programs.
    var outsidePipes: Set<String> = []
    var findings: [Finding] = []

    /// Looks at everything.
    ///
    /// - Parameter known: the status of threads, where it was read behind the stop.
    /// - Throws: `TraceError` and `SystemCallError`; findings are no errors.
    static func take(
        _ pid: Int32,
        _ phase: Phase,
        cache: inout ExaminationCache,
        known: [Int32: ProcessStatus] = [:]
    ) throws -> Survey {
        var survey = Survey(
            pid: pid,
            phase: phase,
            status: try ProcessStatus.read(pid),
            stat: try ProcessStat.read(pid)
        )
        guard survey.status.state != "Z" && survey.status.state != "X" else {
            throw TraceError(
                survey.status.threadCount > 1 ? .leaderExited : .gone,
                "the first thread of process \(pid) has ended"
            )
        }
        try survey.surveyThreads(known)
        if phase == .running {
            try survey.surveyRelations()
            try survey.surveyProgram()
        }
        survey.findings += try Surroundings.findings(of: pid)
        try survey.surveyMappings(&cache)
        try survey.surveyDescriptors()
        try survey.surveySharing(&cache)
        return survey
    }

    private init(pid: Int32, phase: Phase, status: ProcessStatus, stat: ProcessStat) {
        self.pid = pid
        self.phase = phase
        self.status = status
        self.stat = stat
    }

    mutating func find(_ kind: RefusedObject, _ object: String) {
        let finding = Finding(kind, object)
        if !findings.contains(finding) { findings.append(finding) }
    }

    // MARK: Threads and relations

    private mutating func surveyThreads(_ known: [Int32: ProcessStatus]) throws {
        let ids = try ProcFile.threads(of: pid)
        for tid in [pid] + ids.filter({ $0 != pid }) {
            let status: ProcessStatus
            let seen = known[tid] ?? (tid == pid ? self.status : nil)
            do { status = if let seen { seen } else { try ProcessStatus.read(pid, thread: tid) } } catch {
                // Threads come and go while the process runs.
                if phase == .running && error.code == .gone { continue }
                throw error
            }
            threads.append((tid, status))
            surveyThread(tid, status)
        }
    }

    private mutating func surveyThread(_ tid: Int32, _ status: ProcessStatus) {
        let name = tid == pid ? "process \(pid)" : "thread \(tid)"
        if status.seccompMode != 0 {
            let kind = status.seccompMode == 1 ? "strict mode" : "\(status.seccompFilterCount ?? 1) filters"
            find(.seccomp, "\(name) (seccomp \(kind))")
        }
        if status.hasShadowStack { find(.shadowStack, "\(name) (x86_Thread_features: \(status.threadFeatures))") }
        if phase == .running && status.tracer != 0 {
            find(.tracer, "\(name) (traced by process \(status.tracer), \(Self.name(of: status.tracer)))")
        }
        guard tid != pid else { return }
        if clinux_kcmp(pid, tid, clinux_KCMP_FILES, 0, 0) > 0 {
            find(.threadDescriptorTable, "\(name) (own descriptor table)")
            surveyOtherTable(of: tid, name)
        }
        if clinux_kcmp(pid, tid, clinux_KCMP_FS, 0, 0) > 0 {
            find(.threadDescriptorTable, "\(name) (own working directory and umask)")
        }
    }

    private mutating func surveyRelations() throws {
        for child in try Neighbours.children(of: pid) {
            find(.children, "child process \(child) (\(Self.name(of: child)))")
            surveyOtherTable(of: child, "child process \(child)")
        }
        let parent = status.parent
        guard parent > 0 else { return }
        if clinux_kcmp(pid, parent, clinux_KCMP_VM, 0, 0) == 0 {
            find(
                .sharedMemorySpace,
                "process \(pid) (memory shared with its parent \(parent), \(Self.name(of: parent)))"
            )
        }
        if clinux_kcmp(pid, parent, clinux_KCMP_FILES, 0, 0) == 0 {
            find(.sharedDescriptorTable, "process \(pid) (descriptors shared with its parent \(parent))")
        }
    }

    private mutating func surveyProgram() throws {
        let program = try FileReading.open("/proc/\(pid)/exe")
        let head = try FileReading.read(program.rawValue, at: 0, count: 64)
        if ELFFile.is32Bit(head) { find(.thirtyTwoBit, "program \(Self.link("/proc/\(pid)/exe"))") }
    }

    /// The name of a process for messages.
    static func name(of pid: Int32) -> String {
        guard let stat = try? ProcessStat.read(pid) else { return "ended" }
        return String(decoding: stat.name, as: UTF8.self)
    }

    /// A link for messages, repaired when it is not UTF-8.
    static func link(_ path: String) -> String {
        // A link that cannot be read is shown by its own path.
        guard let target = try? FileReading.link(path) else { return path }
        return String(decoding: target, as: UTF8.self)
    }
}
