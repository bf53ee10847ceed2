// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging
internal import ProcessImage
internal import ProcessTrace

/// A mapping that can be carried.
struct SurveyedMapping {
    let entry: MapEntry
    let kind: MappingDescription.Kind
    /// All VmFlags.
    let flags: [String]
    /// The file or object behind it.
    let file: FileStatus?

    func has(_ flag: String) -> Bool {
        flags.contains(flag)
    }

    /// Whether its pages arrive on first touch.
    var isLazy: Bool {
        kind == .anonymous && !has("lo")
    }
}

extension Survey {
    mutating func surveyMappings(_ cache: inout ExaminationCache) throws {
        let locked = status.lockedKilobytes
        if phase == .frozen, let taken = try knownMappings(cache, locked: locked) {
            flagsAreRemembered = true
            for known in taken { survey(known, isNew: false) }
            return
        }
        var known: [ExaminationCache.KnownMapping] = []
        for entry in try ProcessMaps.readDetailed(pid) {
            // What was looked up a moment ago, when the process still ran, is not looked up again under the freeze.
            let before = phase == .frozen ? cache.known(entry) : nil
            let file = try before.map(\.file) ?? file(behind: entry)
            let flags = Self.foreignFlags(of: entry, cache)
            let mapping = ExaminationCache.KnownMapping(entry: entry, flags: flags, file: file)
            known.append(mapping)
            survey(mapping, isNew: before == nil)
        }
        cache.mappings = known
        cache.lockedKilobytes = locked
    }

    /// VmFlags without the write protection of our own tracker, which leaves with it.
    private static func foreignFlags(of entry: MapEntry, _ cache: ExaminationCache) -> [String] {
        let flags = entry.details?.flags ?? []
        guard flags.contains("uw"), cache.tracker?.owns(entry.range) == true else { return flags }
        return flags.filter { $0 != "uw" }
    }

    /// The mappings of now with the flags of before; nil when one is unknown or reading smaps is cheap.
    private func knownMappings(
        _ cache: ExaminationCache,
        locked: UInt64
    ) throws -> [ExaminationCache.KnownMapping]? {
        // Field 24 is the resident set in pages.
        guard stat.field(24) > ExaminationCache.smallResidentPages, locked == cache.lockedKilobytes else { return nil }
        var taken: [ExaminationCache.KnownMapping] = []
        for entry in try ProcessMaps.read(pid) {
            guard let known = cache.known(entry) else { return nil }
            taken.append(ExaminationCache.KnownMapping(entry: entry, flags: known.flags, file: known.file))
        }
        return taken
    }

    /// Refuses what smaps shows to belong to a userfaultfd now, where the flags of the last look were taken over.
    mutating func surveyRegistrations(_ cache: ExaminationCache) throws {
        for entry in try ProcessMaps.readDetailed(pid) {
            let kind = MappingKind(entry, flags: Self.foreignFlags(of: entry, cache), file: nil)
            guard kind == .refused(.foreignUserfaultfd) else { continue }
            find(.foreignUserfaultfd, Self.object(entry))
        }
    }

    static func object(_ entry: MapEntry) -> String {
        "mapping \(entry.range) (\(entry.nameBytes.isEmpty ? "anonymous" : entry.name))"
    }

    /// stat(2) of what a mapping shows; nil for anonymous memory.
    private func file(behind entry: MapEntry) throws -> FileStatus? {
        guard entry.inode != 0 || entry.nameBytes.first == UInt8(ascii: "/") || entry.name.hasPrefix("anon_inode:")
        else {
            return nil
        }
        let range = entry.range.description
        do {
            return try FileStatus(path: "/proc/\(pid)/map_files/\(range)")
        } catch {
            // The mapping went away between the two looks, which only a running process can do.
            if phase == .running && error.errno == .noEntry { return nil }
            throw error
        }
    }

    private mutating func survey(_ known: ExaminationCache.KnownMapping, isNew: Bool) {
        let entry = known.entry
        let object = Self.object(entry)
        switch MappingKind(entry, flags: known.flags, file: known.file) {
        case .everywhere: return
        case .refused(let refusal): find(refusal, object)
        case .carried(let kind):
            if String(validating: entry.nameBytes, as: UTF8.self) == nil {
                find(.pathEncoding, object)
            } else if isNew, kind == .privateFile || kind == .sharedFile, let file = known.file {
                checkPath(entry.name, status: file, object: object)
            }
            mappings.append(SurveyedMapping(entry: entry, kind: kind, flags: known.flags, file: known.file))
        }
    }

    /// Refuses a file that its path does not lead to any more.
    mutating func checkPath(_ path: String, status: FileStatus, object: String) {
        guard status.kind != .symbolicLink else { return }
        if status.links == 0 {
            find(.deletedFile, object)
            return
        }
        // A path that cannot be looked up leads nowhere.
        let found = try? FileStatus(path: path)
        guard let found, found.device == status.device, found.inode == status.inode else {
            find(.replacedFile, object)
            return
        }
    }
}
