// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import LinuxSystem
internal import ProcessImage
internal import ProcessTrace

extension ProcessDescriber {
    func describeMachine() throws {
        var machine = MachineDescription()
        machine.architecture = "x86_64"
        machine.kernelRelease = try Self.line("/proc/sys/kernel/osrelease")
        machine.bootID = try Self.line("/proc/sys/kernel/random/boot_id")
        machine.extendedStateComponents = clinux_xcr0()
        let offsets = try clockOffsets()
        // The clock of the freeze: what time-outs and timers are counted from.
        machine.monotonicClock = Int64(clamping: process.began.nanoseconds) &+ offsets.monotonic
        machine.bootClock = BootTime.now &+ offsets.boot
        description.machine = machine
    }

    func describeIdentity() throws {
        let status = survey.status
        var identity = ProcessIdentity()
        identity.pid = status.namespacePIDs.last ?? pid
        identity.processGroup = status.namespaceProcessGroups.last ?? 0
        identity.session = status.namespaceSessions.last ?? 0
        identity.executable = Survey.link("/proc/\(pid)/exe")
        identity.commandLine = try Examination.commandLine(ProcFile.read("/proc/\(pid)/cmdline"))
        identity.workingDirectory = Survey.link("/proc/\(pid)/cwd")
        description.identity = identity
        try describeSettings()
    }

    private func describeSettings() throws {
        var settings = description.settings
        settings.umask = survey.status.umask ?? 0o022
        settings.personality = try Self.hexadecimal("/proc/\(pid)/personality")
        settings.oomScoreAdjustment = Int32(try Self.line("/proc/\(pid)/oom_score_adj")) ?? 0
        settings.coreDumpFilter = try Self.hexadecimal("/proc/\(pid)/coredump_filter")
        settings.hasControllingTerminal = survey.stat.terminal != 0
        description.settings = settings
    }

    /// How far the clocks of the process are ahead of those of this program, in nanoseconds: time namespaces.
    private func clockOffsets() throws -> (monotonic: Int64, boot: Int64) {
        // Kernels without time namespaces have no such file.
        guard let theirs = try? ProcFile.read("/proc/\(pid)/timens_offsets"),
            let ours = try? ProcFile.read("/proc/self/timens_offsets")
        else { return (0, 0) }
        let (their, own) = (Self.clockOffsets(theirs), Self.clockOffsets(ours))
        return (their.monotonic &- own.monotonic, their.boot &- own.boot)
    }

    /// Parses `/proc/PID/timens_offsets`: name, seconds, nanoseconds a line.
    static func clockOffsets(_ text: [UInt8]) -> (monotonic: Int64, boot: Int64) {
        var offsets: [String: Int64] = [:]
        for line in String(decoding: text, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 3, let seconds = Int64(words[1]), let rest = Int64(words[2]) else { continue }
            offsets[String(words[0])] = seconds &* 1_000_000_000 &+ rest
        }
        return (offsets["monotonic"] ?? 0, offsets["boottime"] ?? 0)
    }

    private static func line(_ path: String) throws -> String {
        let text = try ProcFile.read(path)
        return String(decoding: text.prefix { $0 != 0x0a }, as: UTF8.self)
    }

    private static func hexadecimal(_ path: String) throws -> UInt32 {
        UInt32(try line(path), radix: 16) ?? 0
    }
}
