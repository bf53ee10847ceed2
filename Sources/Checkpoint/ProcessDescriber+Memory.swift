// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import ProcessTrace

extension ProcessDescriber {
    func describeMappings() throws {
        for mapping in survey.mappings {
            var entry = MappingDescription()
            entry.start = mapping.entry.range.lowerBound.rawValue
            entry.end = mapping.entry.range.upperBound.rawValue
            entry.kind = mapping.kind
            entry.protection = mapping.entry.protection
            entry.offset = mapping.entry.offset
            entry.mayWrite = mapping.has("mw")
            entry.flags = mapping.flags.filter { MappingKind.keptFlags.contains($0) }.joined(separator: " ")
            entry.name = mapping.entry.name
            switch mapping.kind {
            case .anonymous:
                entry.offset = 0
            case .kernel:
                if entry.name == "[vdso]" {
                    description.memory.vdso = try memory.read(
                        mapping.entry.range.lowerBound,
                        count: Int(mapping.entry.range.byteCount)
                    )
                }
            case .privateFile, .sharedFile:
                entry.object = fileIndex(of: entry.name)
            case .sharedObject, .privateObject:
                guard let status = mapping.file else { continue }
                let access = "/proc/\(pid)/map_files/\(mapping.entry.range)"
                entry.object = try object(status, name: entry.name, access: access)
            }
            description.memory.mappings.append(entry)
        }
        describeLayout()
        description.memory.auxiliaryVector = try ProcFile.auxiliaryVector(of: pid)
    }

    private func describeLayout() {
        let stat = survey.stat
        var layout = MemoryLayoutFields()
        layout.startCode = stat.startCode
        layout.endCode = stat.endCode
        layout.startData = stat.startData
        layout.endData = stat.endData
        layout.startBrk = stat.startBrk
        layout.startStack = stat.startStack
        layout.argStart = stat.argStart
        layout.argEnd = stat.argEnd
        layout.envStart = stat.envStart
        layout.envEnd = stat.envEnd
        description.memory.layout = layout
    }

    /// Index of shared anonymous memory or a memfd in the description.
    func object(_ status: FileStatus, name: String, access: String) throws -> UInt32 {
        let key = ExaminationCache.ObjectKey(status)
        if let known = objectIndices[key] { return known }
        var object = SharedObject()
        object.size = UInt64(clamping: status.size)
        object.mode = status.permissions
        if name.hasPrefix("/memfd:") {
            object.kind = .memfd
            object.name = Self.memfdName(name)
            let file = try FileReading.open(access)
            object.seals = try OpenFileQuestions.seals(of: file.rawValue)
        }
        let index = UInt32(description.memory.sharedObjects.count)
        objectIndices[key] = index
        objectAccess.append(access)
        description.memory.sharedObjects.append(object)
        return index
    }

    /// `/memfd:NAME (deleted)`.
    static func memfdName(_ link: String) -> String {
        let name = link.dropFirst("/memfd:".count)
        let mark = " (deleted)"
        return String(name.hasSuffix(mark) ? name.dropLast(mark.count) : name)
    }
}
