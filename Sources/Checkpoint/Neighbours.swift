// SPDX-License-Identifier: Apache-2.0
internal import CLinux
internal import LinuxSystem
internal import ProcessTrace

/// The other processes of the machine, as far as they share something with the one that is moved.
enum Neighbours {
    /// Processes whose parent it is.
    ///
    /// Needs no `/proc/PID/task/TID/children`, which not every kernel has.
    static func children(of pid: Int32) throws -> [Int32] {
        try others(than: pid).filter { other in
            // A process that ends meanwhile is no child to care for.
            (try? ProcessStat.read(other))?.parent == pid
        }
    }

    /// All processes but one.
    static func others(than pid: Int32) throws -> [Int32] {
        try ProcFile.numbers(in: "/proc").filter { $0 != pid }
    }

    /// A descriptor of another process.
    struct Holder: Hashable {
        let pid: Int32
        let descriptor: Int32
    }

    /// Descriptors of other processes whose link is among `links`.
    ///
    /// Processes of other users can be looked into by root only; what cannot be seen is passed over.
    static func holders(of links: Set<[UInt8]>, otherThan pid: Int32) throws -> [[UInt8]: [Holder]] {
        var holders: [[UInt8]: [Holder]] = [:]
        guard !links.isEmpty else { return holders }
        for other in try others(than: pid) {
            for number in (try? ProcFile.descriptors(of: other)) ?? [] {
                guard let link = try? ProcFile.link("/proc/\(other)/fd/\(number)"), links.contains(link) else {
                    continue
                }
                holders[link, default: []].append(Holder(pid: other, descriptor: number))
            }
        }
        return holders
    }

    /// Other processes that map an object, by device and inode as maps shows them (`00:01 4711`).
    static func mappers(of objects: [String], otherThan pid: Int32) throws -> [String: Int32] {
        var mappers: [String: Int32] = [:]
        guard !objects.isEmpty else { return mappers }
        let keys = objects.map { (name: $0, bytes: Array(" \($0) ".utf8)) }
        for other in try others(than: pid) {
            guard let maps = try? ProcFile.read("/proc/\(other)/maps") else { continue }
            for key in keys where contains(maps, key.bytes) { mappers[key.name] = other }
        }
        return mappers
    }

    static func contains(_ bytes: [UInt8], _ wanted: [UInt8]) -> Bool {
        guard let first = wanted.first, bytes.count >= wanted.count else { return false }
        for index in 0...(bytes.count - wanted.count) where bytes[index] == first {
            if bytes[index..<index + wanted.count].elementsEqual(wanted) { return true }
        }
        return false
    }
}
