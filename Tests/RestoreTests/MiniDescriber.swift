// SPDX-License-Identifier: Apache-2.0
import CLinux
import Glibc
import LinuxSystem
import Paging
import ProcessImage
import ProcessTrace
import TestSupport

/// Describes a simple process (no shared objects, regular files only), as a check of the restorer by itself.
struct MiniDescriber {
    let group: TraceeGroup
    let memory: ProcessMemory
    var description = ProcessDescription()
    var eager: [EagerPages] = []
    var guards: [AddressRange] = []
    private let allEager: Bool

    /// Freezes and describes a process.
    ///
    /// - Parameter allEager: every page goes ahead, so that the original is not needed any more.
    init(pid: Int32, allEager: Bool = false) throws {
        self.allEager = allEager
        group = try TraceeGroup.freeze(pid, deadline: .after(.seconds(20)))
        memory = try ProcessMemory(pid: pid)
        description.machine.architecture = "x86_64"
        description.machine.extendedStateComponents = clinux_xcr0()
        let status = try ProcessStatus.read(pid)
        description.identity.pid = pid
        description.identity.processGroup = status.namespaceProcessGroups.last!
        description.identity.session = status.namespaceSessions.last!
        description.identity.executable = try link("/proc/\(pid)/exe")
        description.identity.workingDirectory = try link("/proc/\(pid)/cwd")
        description.settings.umask = status.umask ?? 0o22
        try describeMemory(pid)
        try describeThreads(pid, status)
        try describeFiles(pid)
    }

    private func link(_ path: String) throws -> String {
        String(decoding: try ProcFile.link(path)!, as: UTF8.self)
    }

    private mutating func describeMemory(_ pid: Int32) throws {
        let stat = try ProcessStat.read(pid)
        let injector = try SystemCallInjector(memory: memory)
        var layout = MemoryLayoutFields()
        layout.startCode = stat.startCode
        layout.endCode = stat.endCode
        layout.startData = stat.startData
        layout.endData = stat.endData
        layout.startBrk = stat.startBrk
        layout.brk = UInt64(try injector.call(SYS_brk, 0, on: group.leader))
        layout.startStack = stat.startStack
        layout.argStart = stat.argStart
        layout.argEnd = stat.argEnd
        layout.envStart = stat.envStart
        layout.envEnd = stat.envEnd
        description.memory.layout = layout
        description.memory.auxiliaryVector = try ProcFile.auxiliaryVector(of: pid)
        let pagemap = try Pagemap(pid: pid)
        var indices: [String: UInt32] = [:]
        for entry in try ProcessMaps.readDetailed(pid) where entry.name != "[vsyscall]" {
            var mapping = MappingDescription()
            mapping.start = entry.range.lowerBound.rawValue
            mapping.end = entry.range.upperBound.rawValue
            mapping.protection = entry.protection
            mapping.name = entry.name
            mapping.flags = entry.details?.flags.joined(separator: " ") ?? ""
            if entry.name == "[vdso]" || entry.name.hasPrefix("[vvar") {
                mapping.kind = .kernel
                if entry.name == "[vdso]" {
                    description.memory.vdso = try memory.read(entry.range.lowerBound, count: Int(entry.range.byteCount))
                }
            } else if entry.inode != 0 {
                mapping.kind = entry.isShared ? .sharedFile : .privateFile
                mapping.offset = entry.offset
                mapping.mayWrite = mapping.has("mw")
                if indices[entry.name] == nil {
                    var file = FileIdentity()
                    file.path = entry.name
                    file.size = UInt64(try FileStatus(path: entry.name).size)
                    file.writable = true
                    indices[entry.name] = UInt32(description.memory.files.count)
                    description.memory.files.append(file)
                }
                mapping.object = indices[entry.name]!
                try addEager(entry.range, pagemap, fileToo: false)
            } else {
                try addEager(
                    entry.range,
                    pagemap,
                    fileToo: true,
                    within: allEager || entry.details?.has("lo") == true
                        ? entry.range
                        : AddressRange(
                            VirtualAddress(layout.argStart & ~4095),
                            VirtualAddress((layout.envEnd + 4095) & ~4095)
                        )
                )
            }
            let guardQuery = PageQuery(all: .guardPage, returning: .guardPage)
            if mapping.kind == .anonymous { guards += try pagemap.scan(entry.range, guardQuery).map(\.range) }
            description.memory.mappings.append(mapping)
        }
    }

    private mutating func addEager(
        _ range: AddressRange,
        _ pagemap: Pagemap,
        fileToo: Bool,
        within: AddressRange? = nil
    ) throws {
        let query = PageQuery(anyOf: [.present, .swapped], returning: [.present, .file, .guardPage])
        for region in try pagemap.scan(range, query) {
            guard !region.categories.contains(.guardPage) else { continue }
            guard fileToo || !region.categories.contains(.file) else { continue }
            guard let part = within.map({ $0.intersection(region.range) }) ?? region.range else { continue }
            var pages = EagerPages()
            pages.address = part.lowerBound.rawValue
            pages.bytes = try memory.read(part.lowerBound, count: Int(part.byteCount))
            eager.append(pages)
        }
    }

    private mutating func describeThreads(_ pid: Int32, _ status: ProcessStatus) throws {
        let injector = try SystemCallInjector(memory: memory)
        for (index, tracee) in group.tracees.enumerated() {
            var thread = ThreadDescription()
            thread.tid = tracee.tid
            thread.name = try ProcessStat.read(pid, thread: tracee.tid).name
            thread.registers = try tracee.registers().words
            thread.extendedState = try tracee.extendedState()
            thread.signalMask = try tracee.signalMask()
            let rseq = try tracee.rseqConfiguration()
            thread.rseqAddress = rseq?.address ?? 0
            thread.rseqSize = rseq?.size ?? 0
            thread.rseqSignature = rseq?.signature ?? 0
            _ = unsafe clinux_get_robust_list(tracee.tid, &thread.robustListHead, &thread.robustListLength)
            thread.credentials = credentials(try ProcessStatus.read(pid, thread: tracee.tid))
            thread.scheduling.affinity = try CPUAffinity(thread: tracee.tid).mask
            var attributes = [UInt8](repeating: 0, count: 56)
            _ = unsafe attributes.withUnsafeMutableBytes {
                unsafe clinux_sched_getattr(tracee.tid, $0.baseAddress!, 56)
            }
            thread.scheduling.attributes = attributes
            thread.scheduling.ioPriority = clinux_ioprio_get(tracee.tid)
            let slack = try? FileReading.read("/proc/\(tracee.tid)/timerslack_ns", limit: 100)
            thread.timerSlack = UInt64(String(decoding: (slack ?? []).filter { $0 > 32 }, as: UTF8.self)) ?? 0
            for information in try tracee.pendingSignals(shared: false) {
                var entry = SignalInformation()
                entry.bytes = information
                thread.pendingSignals.append(entry)
            }
            var batch = CallBatch()
            let clear = batch.output(8)
            let stack = batch.output(24)
            batch.call(SYS_prctl, .value(40), .data(clear))
            batch.call(SYS_sigaltstack, .value(0), .data(stack))
            let actions = (1...64).map { _ in batch.output(32) }
            if index == 0 {
                for (number, slot) in actions.enumerated() {
                    batch.call(SYS_rt_sigaction, .int(number + 1), .value(0), .data(slot), .value(8))
                }
            }
            let results = try injector.run(batch, on: tracee)
            thread.clearChildTID = results.word(clear)
            thread.alternateStack.address = results.word(stack)
            thread.alternateStack.flags = Int32(truncatingIfNeeded: results.word(stack, at: 8))
            thread.alternateStack.size = results.word(stack, at: 16)
            if index == 0 {
                description.signals.actions = actions.map { slot in
                    var action = SignalAction()
                    action.handler = results.word(slot)
                    action.flags = results.word(slot, at: 8)
                    action.restorer = results.word(slot, at: 16)
                    action.mask = results.word(slot, at: 24)
                    return action
                }
            }
            if let call = try tracee.registers().systemCall, try tracee.registers().result == -516 {
                var interrupted = InterruptedCall()
                interrupted.number = UInt64(call)
                interrupted.continuation = .restartBlock
                interrupted.timeLeft = 300_000_000
                thread.interruptedCall = interrupted
            }
            description.threads.append(thread)
        }
        for information in try group.leader.pendingSignals(shared: true) {
            var entry = SignalInformation()
            entry.bytes = information
            description.signals.pending.append(entry)
        }
    }

    private func credentials(_ status: ProcessStatus) -> Credentials {
        var result = Credentials()
        (result.realUser, result.effectiveUser) = (status.users[0], status.users[1])
        (result.savedUser, result.fileSystemUser) = (status.users[2], status.users[3])
        (result.realGroup, result.effectiveGroup) = (status.groupIDs[0], status.groupIDs[1])
        (result.savedGroup, result.fileSystemGroup) = (status.groupIDs[2], status.groupIDs[3])
        result.groups = status.groups
        result.inheritableCapabilities = status.inheritableCapabilities
        result.permittedCapabilities = status.permittedCapabilities
        result.effectiveCapabilities = status.effectiveCapabilities
        result.boundingCapabilities = status.boundingCapabilities
        result.ambientCapabilities = status.ambientCapabilities
        result.noNewPrivileges = status.noNewPrivileges
        return result
    }

    private mutating func describeFiles(_ pid: Int32) throws {
        for number in try ProcFile.numbers(in: "/proc/\(pid)/fd") {
            let info = try FdInfo.read(pid, descriptor: number)
            var file = OpenFile()
            file.path = try link("/proc/\(pid)/fd/\(number)")
            file.flags = info.flags & ~UInt32(O_CLOEXEC)
            file.offset = info.position
            var entry = DescriptorEntry()
            entry.number = number
            entry.description = UInt32(description.files.descriptions.count)
            entry.closeOnExec = info.flags & UInt32(O_CLOEXEC) != 0
            description.files.descriptions.append(file)
            description.files.descriptors.append(entry)
        }
    }
}
