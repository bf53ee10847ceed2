// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import ProcessImage
internal import ProcessTrace

extension ProcessDescriber {
    func describeDescriptors() throws {
        let process = try ProcessDescriptor(pid: pid)
        for index in survey.descriptions.indices {
            let file = try openFile(index, process)
            description.files.descriptions.append(file)
            for position in survey.descriptions[index] {
                let descriptor = survey.descriptors[position]
                var entry = DescriptorEntry()
                entry.number = descriptor.number
                entry.description = UInt32(index)
                entry.closeOnExec = descriptor.info.flags & UInt32(O_CLOEXEC) != 0
                description.files.descriptors.append(entry)
            }
        }
        description.files.descriptors.sort { $0.number < $1.number }
    }

    private func openFile(_ index: Int, _ process: ProcessDescriptor) throws -> OpenFile {
        let descriptor = survey.descriptors[survey.descriptions[index][0]]
        var file = OpenFile()
        file.flags = descriptor.fileFlags
        file.offset = descriptor.info.position
        switch descriptor.kind {
        case .path: describePath(descriptor, &file)
        case .device:
            file.kind = .device
            file.path = descriptor.link
        case .terminal:
            file.kind = .standardStream
            file.value = standardNumber(index) ?? UInt64(survey.standardTerminal(descriptor)?.number ?? 0)
        case .pipe, .fifo: try describePipe(index, descriptor, process, &file)
        case .eventfd:
            file.kind = .eventfd
            file.value = descriptor.info.eventCount ?? 0
            file.detail = descriptor.info.isEventSemaphore ? 1 : 0
        case .epoll: try describeWatches(descriptor, &file)
        case .timerfd: try describeTimer(descriptor, process, &file)
        case .signalfd:
            file.kind = .signalfd
            file.value = descriptor.info.signalMask ?? 0
        case .memfd:
            file.kind = .memfd
            let access = "/proc/\(pid)/fd/\(descriptor.number)"
            file.object = try object(descriptor.status, name: descriptor.link, access: access)
        case .refused(let kind):
            survey.find(kind, descriptor.object)
        }
        try describeOwner(descriptor, process, &file)
        return file
    }

    /// The standard stream that the description is.
    private func standardNumber(_ index: Int) -> UInt64? {
        survey.descriptions[index].lazy.map { self.survey.descriptors[$0] }.first { $0.isStandard }.map {
            UInt64($0.number)
        }
    }

    private func describePath(_ descriptor: SurveyedDescriptor, _ file: inout OpenFile) {
        file.kind = .path
        file.path = descriptor.link
        if descriptor.status.kind == .regular { file.object = fileIndex(of: descriptor.link) }
    }

    private func describeTimer(
        _ descriptor: SurveyedDescriptor,
        _ process: ProcessDescriptor,
        _ file: inout OpenFile
    ) throws {
        file.kind = .timerfd
        let copy = try process.duplicate(descriptor.number)
        try OpenFileQuestions.catchUp(timer: copy.rawValue)
        guard let timer = try FdInfo.read(pid, descriptor: descriptor.number).timer else { return }
        file.value = timer.ticks
        file.detail = timer.clock
        file.timerFlags = timer.setFlags
        file.timer.value = timer.value
        file.timer.period = timer.interval
    }

    private func describeWatches(_ descriptor: SurveyedDescriptor, _ file: inout OpenFile) throws {
        file.kind = .epoll
        for (index, watch) in descriptor.info.watches.enumerated() {
            guard let target = survey.watched(by: descriptor, watch: index) else {
                survey.find(.epollWatch, "\(descriptor.object), watch of descriptor \(watch.descriptor)")
                continue
            }
            var entry = EpollWatch()
            entry.number = watch.descriptor
            entry.description = UInt32(target)
            entry.events = watch.events
            entry.data = watch.data
            file.watches.append(entry)
        }
    }

    /// F_SETOWN and F_SETSIG matter only with O_ASYNC.
    private func describeOwner(
        _ descriptor: SurveyedDescriptor,
        _ process: ProcessDescriptor,
        _ file: inout OpenFile
    ) throws {
        guard descriptor.fileFlags & UInt32(O_ASYNC) != 0 else { return }
        let copy = try process.duplicate(descriptor.number)
        let owner = try OpenFileQuestions.owner(of: copy.rawValue)
        file.ownerType = owner.type
        file.ownerSignal = owner.signal
        file.owner = owner.id == pid ? description.identity.pid : innerID(owner.id)
    }

    // MARK: Pipes

    private func describePipe(
        _ index: Int,
        _ descriptor: SurveyedDescriptor,
        _ process: ProcessDescriptor,
        _ file: inout OpenFile
    ) throws {
        if survey.outsidePipes.contains(descriptor.link), let number = standardNumber(index) {
            file.kind = .standardStream
            file.value = number
            return
        }
        file.kind = .pipe
        file.detail = descriptor.kind == .fifo ? 1 : 0
        if descriptor.kind == .fifo { file.path = descriptor.link }
        let key = ExaminationCache.ObjectKey(descriptor.status)
        if let known = pipeIndices[key] {
            file.object = known
            return
        }
        file.object = UInt32(description.files.pipes.count)
        pipeIndices[key] = file.object
        description.files.pipes.append(try pipe(key, descriptor, process))
    }

    private func pipe(
        _ key: ExaminationCache.ObjectKey,
        _ descriptor: SurveyedDescriptor,
        _ process: ProcessDescriptor
    ) throws -> Pipe {
        let ends = survey.descriptors.filter {
            ($0.kind == .pipe || $0.kind == .fifo) && ExaminationCache.ObjectKey($0.status) == key
                && $0.fileFlags & clinux_O_PATH == 0
        }
        var pipe = Pipe()
        guard let any = ends.first else { return pipe }
        let copy = try process.duplicate(any.number)
        pipe.capacity = try OpenFileQuestions.pipeSize(of: copy.rawValue)
        // Without a reading end nobody will ever see what is in it.
        let readable = ends.first { $0.fileFlags & UInt32(O_ACCMODE) != UInt32(O_WRONLY) }
        guard let readable else { return pipe }
        let end = try process.duplicate(readable.number)
        let pieces = try OpenFileQuestions.contents(ofPipe: end.rawValue, capacity: pipe.capacity)
        pipe.content = Array(pieces.joined())
        let hasPackets = ends.contains { $0.fileFlags & clinux_O_DIRECT != 0 && $0.isWritable }
        if hasPackets { pipe.packets = pieces.map { UInt32($0.count) } }
        return pipe
    }

    // MARK: Files

    /// Index of a regular file in the description, which is identified when it is met first.
    func fileIndex(of path: String) -> UInt32 {
        if let known = fileIndices[path] { return known }
        let uses = filesByPath[path] ?? []
        var identity = FileIdentity()
        identity.path = path
        identity.writable = uses.contains(where: \.isWritten)
        if let use = uses.first {
            identity.size = UInt64(clamping: use.status.size)
            identity.modified = use.status.modified
            if !identity.writable {
                // A file that was opened a moment ago is hashed now, so only when that is quick.
                let fingerprint =
                    cache.fingerprints[ExaminationCache.FileKey(use.status)]
                    ?? Survey.fingerprint(use, digestLimit: 1 << 20)
                identity.buildID = fingerprint.buildID
                identity.digest = fingerprint.digest
            }
        }
        let index = UInt32(description.memory.files.count)
        fileIndices[path] = index
        description.memory.files.append(identity)
        return index
    }
}
