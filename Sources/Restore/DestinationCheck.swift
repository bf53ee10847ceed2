// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import ProcessTrace

/// What has to be true of this machine before a process can be built on it.
///
/// Nothing is altered.
struct DestinationCheck {
    /// The address space of this program, which the new process starts with.
    let ownMappings: [MapEntry]
    /// `[vvar]`, `[vvar_vclock]` and `[vdso]` among them, ascending.
    let kernelMappings: [MapEntry]

    /// Compares a description with this machine.
    ///
    /// - Throws: ``RestoreError`` that names the first thing that differs.
    init(_ description: ProcessDescription, options: BuildOptions) throws(RestoreError) {
        try Self.checkMachine(description)
        ownMappings = try RestoreError.trace("read the own mappings") { () throws(TraceError) in
            try ProcessMaps.read(getpid())
        }
        kernelMappings = ownMappings.filter { Self.isKernelMapping($0.name) }
        try Self.checkVDSO(description.memory, kernelMappings)
        try FileCheck(description).run()
        if !options.newPIDNamespace { try Self.checkIDs(description) }
    }

    /// Whether a mapping is one that the kernel gives every process.
    static func isKernelMapping(_ name: String) -> Bool {
        name == "[vdso]" || name.hasPrefix("[vvar")
    }

    private static func checkMachine(_ description: ProcessDescription) throws(RestoreError) {
        let machine = description.machine
        #if arch(x86_64)
        let own = "x86_64"
        #endif
        guard machine.architecture == own else {
            throw RestoreError(
                .refused,
                "the process runs on \"\(machine.architecture)\" and this machine is \"\(own)\": use one of the same kind"
            )
        }
        guard let leader = description.threads.first, leader.tid == description.identity.pid else {
            throw RestoreError(.badDescription, "the description does not begin with the thread of the process")
        }
        guard description.signals.actions.count == 64 else {
            throw RestoreError(
                .badDescription,
                "the description has \(description.signals.actions.count) signal actions"
            )
        }
        try checkExtendedState(machine)
    }

    private static func checkExtendedState(_ machine: MachineDescription) throws(RestoreError) {
        let components = ExtendedState.components
        let missing = machine.extendedStateComponents & ~components
        guard missing == 0 else {
            throw RestoreError(
                .refused,
                "the process may use CPU state 0x\(String(missing, radix: 16)) (XCR0) that this CPU lacks: use a CPU that has it"
            )
        }
    }

    private static func checkVDSO(_ memory: MemoryDescription, _ own: [MapEntry]) throws(RestoreError) {
        let wanted = memory.mappings.filter { $0.kind == .kernel }
        guard !wanted.isEmpty else { return }
        let remedy = "run the same kernel on both machines"
        guard wanted.map(\.name) == own.map(\.name), wanted.map(\.range.byteCount) == own.map(\.range.byteCount) else {
            throw RestoreError(
                .refused,
                "the vDSO of the process is laid out otherwise than this kernel's: \(remedy)"
            )
        }
        guard let vdso = own.last(where: { $0.name == "[vdso]" }) else { return }
        let bytes = try RestoreError.trace("read the own vDSO") { () throws(TraceError) in
            try ProcessMemory(pid: getpid()).read(vdso.range.lowerBound, count: Int(vdso.range.byteCount))
        }
        guard bytes == memory.vdso else {
            throw RestoreError(.refused, "the vDSO of the process is another than this kernel's: \(remedy)")
        }
    }

    private static func checkIDs(_ description: ProcessDescription) throws(RestoreError) {
        for thread in description.threads {
            guard let holder = HolderOfID(thread.tid) else { continue }
            throw holder.error
        }
    }
}

/// Who has an id that the restored process needs.
struct HolderOfID {
    let id: Int32
    let commandLine: String

    /// nil when no thread has the id.
    init?(_ id: Int32) {
        // A thread that is not a leader is not listed but can be looked up.
        guard let line = try? FileReading.read("/proc/\(id)/cmdline", limit: 1 << 20) else { return nil }
        self.id = id
        let words = line.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        if words.isEmpty {
            let name = (try? FileReading.read("/proc/\(id)/comm", limit: 4096)) ?? []
            commandLine = "[" + String(decoding: name.prefix { $0 != 10 }, as: UTF8.self) + "]"
        } else {
            commandLine = words.joined(separator: " ")
        }
    }

    var error: RestoreError {
        Self.error(id, "process \"\(commandLine)\" has it")
    }

    static func error(_ id: Int32, _ holder: String) -> RestoreError {
        RestoreError(.refused, "the id \(id) is taken: \(holder); end it, or use --new-pid-namespace")
    }
}
