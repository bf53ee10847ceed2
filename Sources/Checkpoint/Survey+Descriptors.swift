// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import ProcessTrace

/// An open descriptor.
struct SurveyedDescriptor {
    let number: Int32
    /// Text of `/proc/PID/fd/N`.
    let link: String
    let status: FileStatus
    let info: FdInfo
    let kind: DescriptorKind

    /// Name and number for messages.
    var object: String { "descriptor \(number) (\(link))" }

    /// Flags of the open file description.
    var fileFlags: UInt32 { info.flags & ~UInt32(O_CLOEXEC) }

    /// Whether it can be written.
    var isWritable: Bool { fileFlags & UInt32(O_ACCMODE) != UInt32(O_RDONLY) }

    /// Whether it is the place of a standard stream.
    var isStandard: Bool { number <= 2 }
}

extension Survey {
    mutating func surveyDescriptors() throws {
        for number in try ProcFile.descriptors(of: pid) {
            do {
                if let descriptor = try descriptor(number) { descriptors.append(descriptor) }
            } catch {
                // A running process closes descriptors as it likes.
                guard phase == .running, !isOpen(number) else { throw error }
            }
        }
        groupDescriptions()
        for descriptor in descriptors { survey(descriptor) }
        surveyWorkingDirectory()
    }

    /// Whether a file is open with O_DIRECT; on a pipe the flag means packets.
    var usesDirectIO: Bool {
        descriptors.contains { $0.status.kind == .regular && $0.fileFlags & clinux_O_DIRECT != 0 }
    }

    private func isOpen(_ number: Int32) -> Bool {
        (try? ProcFile.link("/proc/\(pid)/fd/\(number)")).flatMap(\.self) != nil
    }

    private mutating func descriptor(_ number: Int32) throws -> SurveyedDescriptor? {
        let path = "/proc/\(pid)/fd/\(number)"
        guard let bytes = try ProcFile.link(path) else { return nil }
        let status = try FileStatus(path: path)
        let info = try FdInfo.read(pid, descriptor: number)
        guard let link = String(validating: bytes, as: UTF8.self) else {
            find(.pathEncoding, "descriptor \(number) (\(String(decoding: bytes, as: UTF8.self)))")
            return nil
        }
        let kind = DescriptorKind(link: link, status: status)
        return SurveyedDescriptor(number: number, link: link, status: status, info: info, kind: kind)
    }

    /// Finds the descriptors that share one open file description.
    ///
    /// kcmp(2) orders descriptions, so each descriptor is sorted into those of its kind.
    private mutating func groupDescriptions() {
        var groups: [String: [Int]] = [:]
        for (index, descriptor) in descriptors.enumerated() {
            let key = "\(descriptor.link) \(descriptor.fileFlags)"
            var ordered = groups[key] ?? []
            var low = 0
            var high = ordered.count
            var same: Int?
            while low < high && same == nil {
                let middle = (low + high) / 2
                let other = descriptors[descriptions[ordered[middle]][0]].number
                switch compare(descriptor.number, other) {
                case 0: same = ordered[middle]
                case 1: high = middle
                default: low = middle + 1
                }
            }
            if let same {
                descriptions[same].append(index)
            } else {
                descriptions.append([index])
                ordered.insert(descriptions.count - 1, at: low)
                groups[key] = ordered
            }
        }
    }

    private func compare(_ left: Int32, _ right: Int32) -> Int32 {
        clinux_kcmp(pid, pid, clinux_KCMP_FILE, UInt64(left), UInt64(right))
    }

    /// Whether one of the standard streams is the same description as `index`.
    func isStandardStream(description index: Int) -> Bool {
        descriptions[index].contains { descriptors[$0].isStandard }
    }

    /// The standard stream whose terminal the descriptor is.
    func standardTerminal(_ descriptor: SurveyedDescriptor) -> SurveyedDescriptor? {
        descriptors.first {
            $0.isStandard && $0.kind == .terminal && $0.status.representedDevice == descriptor.status.representedDevice
        }
    }

    private mutating func survey(_ descriptor: SurveyedDescriptor) {
        let object = descriptor.object
        switch descriptor.kind {
        case .refused(let kind): find(kind, object)
        case .path: surveyFile(descriptor)
        case .device: checkPath(descriptor.link, status: descriptor.status, object: object)
        case .terminal: if standardTerminal(descriptor) == nil { find(.device, object) }
        case .fifo: checkPath(descriptor.link, status: descriptor.status, object: object)
        case .epoll: surveyWatches(descriptor)
        case .pipe, .eventfd, .timerfd, .signalfd, .memfd: break
        }
        for lock in descriptor.info.locks {
            find(lock.contains("LEASE") || lock.contains("DELEG") ? .lease : .fileLock, "\(object), lock \(lock)")
        }
    }

    private mutating func surveyFile(_ descriptor: SurveyedDescriptor) {
        // A message queue looks like a regular file whose path is not one of ours.
        if descriptor.status.kind == .regular, isMessageQueue(descriptor) {
            find(.messageQueue, descriptor.object)
            return
        }
        checkPath(descriptor.link, status: descriptor.status, object: descriptor.object)
    }

    private func isMessageQueue(_ descriptor: SurveyedDescriptor) -> Bool {
        // /name, directly below a root that is not ours.
        guard !descriptor.link.dropFirst().contains("/") else { return false }
        guard let file = try? ProcessDescriptor(pid: pid).duplicate(descriptor.number) else { return false }
        return (try? OpenFileQuestions.fileSystemType(of: file.rawValue)) == 0x1980_0202
    }

    private mutating func surveyWorkingDirectory() {
        let path = "/proc/\(pid)/cwd"
        let object = "working directory (\(Survey.link(path)))"
        guard let status = try? FileStatus(path: path), let link = try? FileReading.link(path) else { return }
        if let name = String(validating: link, as: UTF8.self) {
            checkPath(name, status: status, object: object)
        } else {
            find(.pathEncoding, object)
        }
    }

    /// Names each userfaultfd in a descriptor table beside the process's own: that of a child or of a thread that has left the common one.
    ///
    /// Nothing tells whose memory it handles, and the owner of the table is refused anyway: the user learns what to close.
    mutating func surveyOtherTable(of owner: Int32, _ name: String) {
        for finding in PageFaultHandling.userfaultfds(inTableOf: owner, of: name) { find(finding.kind, finding.object) }
    }

    // MARK: epoll

    private mutating func surveyWatches(_ descriptor: SurveyedDescriptor) {
        for (index, watch) in descriptor.info.watches.enumerated()
        where watched(by: descriptor, watch: index) == nil {
            find(.epollWatch, "\(descriptor.object), watch of descriptor \(watch.descriptor)")
        }
    }

    /// The description that a watch watches; nil when no descriptor leads to it any more.
    func watched(by epoll: SurveyedDescriptor, watch index: Int) -> Int? {
        let watch = epoll.info.watches[index]
        // Several watches may carry one number, when descriptors were closed and others got it.
        let turn = epoll.info.watches[..<index].count { $0.descriptor == watch.descriptor }
        func isTarget(_ number: Int32) -> Bool {
            let result = clinux_kcmp_epoll(
                pid,
                pid,
                number,
                UInt32(bitPattern: epoll.number),
                UInt32(bitPattern: watch.descriptor),
                UInt32(turn)
            )
            return result == 0
        }
        let direct = descriptions.firstIndex { $0.contains { descriptors[$0].number == watch.descriptor } }
        if let direct, isTarget(watch.descriptor) { return direct }
        return descriptions.firstIndex { isTarget(descriptors[$0[0]].number) }
    }
}
