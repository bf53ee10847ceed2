// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import Glibc
internal import LinuxSystem
internal import ProcessImage
internal import ProcessTrace

/// What other processes share.
extension Survey {
    /// Refuses what another process has a part in; what nobody shares is remembered.
    mutating func surveySharing(_ cache: inout ExaminationCache) throws {
        recallOutsidePipes(cache)
        let suspects = descriptions.indices.filter { isSuspect($0) && !isKnown(descriptions[$0], cache) }
        let links = Set(suspects.map { Array(descriptors[descriptions[$0][0]].link.utf8) })
        let holders = try Neighbours.holders(of: links, otherThan: pid)
        for index in suspects {
            let descriptor = descriptors[descriptions[index][0]]
            let others = holders[Array(descriptor.link.utf8)] ?? []
            if let holder = others.first(where: { shares(descriptor, $0) }) {
                refuse(index, descriptor, sharedWith: holder)
            } else {
                remember(descriptions[index], &cache)
            }
        }
        cache.outsidePipes.formUnion(outsidePipes)
        try surveySharedMemory(&cache)
    }

    /// A pipe that led to another program keeps doing so.
    private mutating func recallOutsidePipes(_ cache: ExaminationCache) {
        for index in descriptions.indices {
            let descriptor = descriptors[descriptions[index][0]]
            guard cache.outsidePipes.contains(descriptor.link) else { continue }
            outsidePipes.insert(descriptor.link)
            if !isStandardStream(description: index) { find(.sharedPipe, descriptor.object) }
        }
    }

    /// Whether it matters that another process has it.
    private func isSuspect(_ index: Int) -> Bool {
        let descriptor = descriptors[descriptions[index][0]]
        return switch descriptor.kind {
        case .pipe, .fifo, .eventfd, .epoll, .timerfd, .memfd: true
        case .path:
            // A shared offset matters where both write; a standard stream on a file is shared with its shell for good.
            descriptor.status.kind == .regular && descriptor.isWritable && !isStandardStream(description: index)
                && descriptor.fileFlags & UInt32(O_APPEND) == 0
        case .device, .terminal, .signalfd, .refused: false
        }
    }

    /// Pipes, FIFOs and memory are shared as a whole; other things only by one open file description.
    private func shares(_ descriptor: SurveyedDescriptor, _ holder: Neighbours.Holder) -> Bool {
        switch descriptor.kind {
        case .pipe, .fifo: true
        case .memfd:
            // Links show the name only, which several may have.
            (try? FileStatus(path: "/proc/\(holder.pid)/fd/\(holder.descriptor)")).map {
                $0.inode == descriptor.status.inode && $0.device == descriptor.status.device
            } ?? false
        default:
            clinux_kcmp(
                pid,
                holder.pid,
                clinux_KCMP_FILE,
                UInt64(descriptor.number),
                UInt64(holder.descriptor)
            ) == 0
        }
    }

    private mutating func refuse(_ index: Int, _ descriptor: SurveyedDescriptor, sharedWith holder: Neighbours.Holder) {
        let name = Self.name(of: holder.pid)
        let object = "\(descriptor.object), also descriptor \(holder.descriptor) of process \(holder.pid) (\(name))"
        switch descriptor.kind {
        case .pipe, .fifo:
            outsidePipes.insert(descriptor.link)
            if !isStandardStream(description: index) { find(.sharedPipe, object) }
        case .memfd: find(.sharedMemory, object)
        default: find(.sharedFile, object)
        }
    }

    private func isKnown(_ description: [Int], _ cache: ExaminationCache) -> Bool {
        let descriptor = descriptors[description[0]]
        return switch descriptor.kind {
        case .pipe, .fifo, .memfd:
            cache.unshared.contains(ExaminationCache.ObjectKey(descriptor.status))
                || outsidePipes.contains(descriptor.link)
        default: cache.unsharedDescriptors.contains("\(descriptor.number) \(descriptor.link)")
        }
    }

    private func remember(_ description: [Int], _ cache: inout ExaminationCache) {
        let descriptor = descriptors[description[0]]
        switch descriptor.kind {
        case .pipe, .fifo, .memfd: cache.unshared.insert(ExaminationCache.ObjectKey(descriptor.status))
        default: cache.unsharedDescriptors.insert("\(descriptor.number) \(descriptor.link)")
        }
    }

    private mutating func surveySharedMemory(_ cache: inout ExaminationCache) throws {
        var names: [String: SurveyedMapping] = [:]
        for mapping in mappings where mapping.kind == .sharedObject || mapping.kind == .privateObject {
            guard let file = mapping.file, !cache.unshared.contains(ExaminationCache.ObjectKey(file)) else { continue }
            names[Self.mapsName(mapping.entry)] = mapping
        }
        let mappers = try Neighbours.mappers(of: Array(names.keys), otherThan: pid)
        for (name, mapping) in names.sorted(by: { $0.key < $1.key }) {
            if let other = mappers[name] {
                let object = "mapping \(mapping.entry.range) (\(mapping.entry.name))"
                find(.sharedMemory, "\(object), also mapped by process \(other) (\(Self.name(of: other)))")
            } else if let file = mapping.file {
                cache.unshared.insert(ExaminationCache.ObjectKey(file))
            }
        }
    }

    /// Device and inode as maps prints them.
    private static func mapsName(_ entry: MapEntry) -> String {
        func pair(_ number: UInt32) -> String {
            let text = String(number, radix: 16)
            return text.count < 2 ? "0" + text : text
        }
        return "\(pair(entry.deviceMajor)):\(pair(entry.deviceMinor)) \(entry.inode)"
    }
}
