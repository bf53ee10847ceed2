// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import ProcessTrace
internal import Userfaultfd

// The address space: emptied, the kernel's own mappings moved, everything else mapped.
extension Construction {
    /// Closes what was inherited, and unmaps everything but the stub and the kernel's own mappings.
    func clear() throws(RestoreError) {
        let rseq = try RestoreError.trace("read rseq") { () throws(TraceError) in try leader.rseqConfiguration() }
        var batch = runner.makeBatch()
        if let rseq {
            // The area lies in memory that goes away: the kernel would kill the thread at its next return to user mode.
            batch.call(SYS_rseq, rseq.address, UInt64(rseq.size), 1, UInt64(rseq.signature), for: "unregister rseq")
        }
        // Room for descriptors of ours beside those of the process; the limits are set as they were later. The hard limit must not
        // be lowered below what it was at the source: raising it again takes CAP_SYS_RESOURCE.
        let limits = description.settings.limits
        let hard = limits.indices.contains(15) ? limits[15] : 0
        let limit = batch.place(words: [UInt64(descriptorLimit), max(UInt64(descriptorLimit), hard)])
        batch.call(
            SYS_prlimit64,
            0,
            Self.descriptorLimitResource,
            limit,
            0,
            for: "raise RLIMIT_NOFILE",
            expecting: .anything
        )
        batch.call(SYS_close_range, 3, UInt64(UInt32.max), 0, for: "close inherited descriptors")
        let kept = ([stub.range] + check.kernelMappings.map(\.range)).sorted { $0.lowerBound < $1.lowerBound }
        var start: UInt64 = 0
        for range in kept + [AddressRange(VirtualAddress(AddressPlan.highest), VirtualAddress(AddressPlan.highest))] {
            if range.lowerBound.rawValue > start {
                batch.call(SYS_munmap, start, range.lowerBound.rawValue - start, for: "unmap what was inherited")
            }
            start = range.upperBound.rawValue
        }
        try runner.run(batch, on: leader)
    }

    /// Moves `[vvar]`, `[vvar_vclock]` and `[vdso]` to where the process had them: over a place that neither uses, since the two
    /// may overlap.
    func moveKernelMappings() throws(RestoreError) {
        let wanted = description.memory.mappings.filter { $0.kind == .kernel }
        let own = check.kernelMappings.map(\.range)
        guard wanted.map(\.range) != own else { return }
        var batch = runner.makeBatch()
        var moves: [(AddressRange, UInt64)] = []
        for (index, range) in own.enumerated() {
            guard index < wanted.count else {
                batch.call(SYS_munmap, range.lowerBound.rawValue, range.byteCount, for: "unmap the vDSO")
                continue
            }
            guard let between = plan.allocate(range.byteCount) else {
                throw RestoreError(.unavailable, "there is no room in the address space for moving the vDSO")
            }
            addMove(range, to: between.lowerBound.rawValue, &batch)
            moves.append((between, wanted[index].start))
        }
        for (range, target) in moves { addMove(range, to: target, &batch) }
        try runner.run(batch, on: leader)
    }

    private func addMove(_ range: AddressRange, to target: UInt64, _ batch: inout StubBatch) {
        batch.call(
            SYS_mremap,
            range.lowerBound.rawValue,
            range.byteCount,
            range.byteCount,
            Kernel.moveTo,
            target,
            for: "move the vDSO",
            expecting: .value(target)
        )
    }

    /// Makes a userfaultfd in the process, as long as that still may, and takes it out.
    func makeUserfaultfd() throws(RestoreError) -> Userfaultfd {
        try makeUserfaultfd(options.tracked ? .trackedRestore : .lazyRestore)
    }

    /// Makes one more for its lazy shared memory, whose events have to wait; nil when it has none.
    func makeObjectUserfaultfd() throws(RestoreError) -> Userfaultfd? {
        lazyObjects.isEmpty ? nil : try makeUserfaultfd(.lazyObjects)
    }

    private func makeUserfaultfd(_ features: UserfaultFeatures) throws(RestoreError) -> Userfaultfd {
        var batch = runner.makeBatch()
        batch.call(SYS_userfaultfd, UInt64(O_CLOEXEC | O_NONBLOCK), for: "make a userfaultfd")
        let number = Int32(truncatingIfNeeded: try runner.run(batch, on: leader)[0])
        try growDescriptorTable(with: number)
        let owned = try takeOut(number)
        do {
            return try Userfaultfd.adopt(owned, features: features)
        } catch {
            throw RestoreError(.unavailable, "cannot set the userfaultfd up: \(error)")
        }
    }

    /// Duplicates a descriptor of the process into this program and closes it there.
    private func takeOut(_ number: Int32) throws(RestoreError) -> OwnedDescriptor {
        let owned = try duplicate(number)
        var batch = runner.makeBatch()
        batch.call(SYS_close, UInt64(number), for: "close a descriptor of ours")
        try runner.run(batch, on: leader)
        return owned
    }

    /// Duplicates a descriptor of the process into this program.
    func duplicate(_ number: Int32) throws(RestoreError) -> OwnedDescriptor {
        try RestoreError.wrap("take a descriptor out of the new process") { () throws(SystemCallError) in
            try process.duplicate(number)
        }
    }

    /// Maps everything that is described, with contents still missing.
    func mapEverything() throws(RestoreError) {
        let files = try openMappedFiles()
        try runner.run(over: description.memory.mappings.filter { $0.kind != .kernel }, on: leader) {
            (mapping: MappingDescription, batch) throws(RestoreError) in
            guard !(mapping.kind == .sharedObject && objects[Int(mapping.object)].isMappedLate) else { return }
            try add(mapping, files: files, to: &batch)
        }
        try setLayout(files: files)
        var batch = runner.makeBatch()
        for number in Set(files.values) { batch.call(SYS_close, UInt64(number), for: "close a mapped file") }
        try runner.run(batch, on: leader)
    }

    /// Adds the calls that make one mapping.
    func add(
        _ mapping: MappingDescription,
        files: [MappedFile: Int32],
        to batch: inout StubBatch
    ) throws(RestoreError) {
        var flags = MAP_FIXED_NOREPLACE
        var descriptor: Int32 = -1
        switch mapping.kind {
        case .anonymous: flags |= MAP_PRIVATE | MAP_ANONYMOUS
        case .privateFile:
            flags |= MAP_PRIVATE
            descriptor = files[MappedFile(index: mapping.object, writable: false)] ?? -1
        case .sharedFile:
            flags |= MAP_SHARED
            descriptor = files[MappedFile(index: mapping.object, writable: mapping.mayWrite)] ?? -1
        case .sharedObject, .privateObject:
            flags |= mapping.kind == .sharedObject ? MAP_SHARED : MAP_PRIVATE
            descriptor = objects[Int(mapping.object)].descriptor
        case .kernel: return
        }
        let words = Set(mapping.flags.split(separator: " "))
        if words.contains("gd") { flags |= MAP_GROWSDOWN }
        if words.contains("nr") { flags |= MAP_NORESERVE }
        batch.call(
            SYS_mmap,
            mapping.start,
            mapping.end - mapping.start,
            UInt64(mapping.protection),
            UInt64(flags),
            UInt64(argument: descriptor),
            mapping.offset,
            for: "map \(mapping.range) \(mapping.name)",
            expecting: .value(mapping.start)
        )
        addAdvice(mapping, words, to: &batch)
    }

    private func addAdvice(_ mapping: MappingDescription, _ words: Set<Substring>, to batch: inout StubBatch) {
        for (word, advice) in Self.advice where words.contains(word) {
            batch.call(
                SYS_madvise,
                mapping.start,
                mapping.end - mapping.start,
                advice,
                for: "give the advice \"\(word)\" for \(mapping.range)",
                // A kernel without huge pages or KSM has nothing to advise.
                expecting: ["hg", "nh", "mg"].contains(word) ? .anything : .success
            )
        }
        for prefix in ["[anon:", "[anon_shmem:"] where mapping.name.hasPrefix(prefix) {
            let name = String(mapping.name.dropFirst(prefix.count).dropLast())
            let text = batch.place(name)
            batch.call(
                SYS_prctl,
                Kernel.setVMA,
                0,
                mapping.start,
                mapping.end - mapping.start,
                text,
                for: "name \(mapping.range)",
                // Needs a kernel that is built with names (CONFIG_ANON_VMA_NAME).
                expecting: .anything
            )
        }
    }

    /// RLIMIT_NOFILE.
    private static let descriptorLimitResource: UInt64 = 7

    /// Words of VmFlags and the advice of madvise(2) that sets them.
    private static let advice: [(word: Substring, value: UInt64)] = [
        ("rr", 1), ("sr", 2), ("dc", 10), ("mg", 12), ("hg", 14), ("nh", 15), ("dd", 16), ("wf", 18),
    ]

    /// A file that is opened for mapping.
    struct MappedFile: Hashable {
        let index: UInt32
        let writable: Bool
    }

    private func openMappedFiles() throws(RestoreError) -> [MappedFile: Int32] {
        var wanted: [MappedFile] = []
        var seen: Set<MappedFile> = []
        for mapping in description.memory.mappings where mapping.kind == .privateFile || mapping.kind == .sharedFile {
            let file = MappedFile(index: mapping.object, writable: mapping.kind == .sharedFile && mapping.mayWrite)
            guard Int(file.index) < description.memory.files.count else {
                throw RestoreError(.badDescription, "mapping \(mapping.range) is of a file that is not described")
            }
            if seen.insert(file).inserted { wanted.append(file) }
        }
        let numbers = try runner.run(over: wanted, on: leader, callsPerItem: 1) {
            (file: MappedFile, batch) throws(RestoreError) in
            let path = description.memory.files[Int(file.index)].path
            let text = batch.place(path)
            let flags = (file.writable ? O_RDWR : O_RDONLY) | O_CLOEXEC
            batch.call(SYS_openat, UInt64(argument: AT_FDCWD), text, UInt64(flags), for: "open \"\(path)\"")
        }
        return Dictionary(uniqueKeysWithValues: zip(wanted, numbers.map { Int32(truncatingIfNeeded: $0) }))
    }

    /// `/proc/PID/exe`, the borders that `/proc/PID/cmdline` and brk(2) go by, and the auxiliary vector: PR_SET_MM_MAP.
    private func setLayout(files: [MappedFile: Int32]) throws(RestoreError) {
        let fields = description.memory.layout
        var batch = runner.makeBatch()
        let path = batch.place(description.identity.executable)
        batch.call(
            SYS_openat,
            UInt64(argument: AT_FDCWD),
            path,
            UInt64(O_RDONLY | O_CLOEXEC),
            for: "open \"\(description.identity.executable)\""
        )
        let executable = UInt64(truncatingIfNeeded: try runner.run(batch, on: leader)[0])
        batch = runner.makeBatch()
        let auxiliary = batch.place(description.memory.auxiliaryVector)
        let sizes = UInt64(description.memory.auxiliaryVector.count) | executable << 32
        let map = batch.place(
            words: [
                fields.startCode, fields.endCode, fields.startData, fields.endData, fields.startBrk, fields.brk,
                fields.startStack, fields.argStart, fields.argEnd, fields.envStart, fields.envEnd, auxiliary, sizes,
            ]
        )
        batch.call(SYS_prctl, Kernel.setMemory, Kernel.setMemoryMap, map, 13 * 8, for: "set the memory layout")
        batch.call(SYS_close, executable, for: "close the executable")
        try runner.run(batch, on: leader)
    }

    /// VMAs of private memory whose pages may come later: anonymous ones that are not locked.
    var lazyRanges: [AddressRange] {
        description.memory.mappings.filter { $0.kind == .anonymous && !$0.has("lo") }.map(\.range)
    }

    /// Locks what was locked; its pages are there, or never existed.
    func lockMemory() throws(RestoreError) {
        let locked = description.memory.mappings.filter { $0.kind != .kernel && $0.has("lo") }
        try runner.run(over: locked, on: leader) { (mapping: MappingDescription, batch) throws(RestoreError) in
            batch.call(
                SYS_mlock2,
                mapping.start,
                mapping.end - mapping.start,
                // VM_LOCKONFAULT and MLOCK_ONFAULT.
                mapping.has("lf") ? 1 : 0,
                for: "lock \(mapping.range)"
            )
        }
    }
}
