// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxSystem
internal import Paging
internal import ProcessTrace
internal import TestSupport

@testable internal import DirtyTracking

/// A victim that does to its memory what the test says.
final class TrackedVictim {
    let process: TestProcess
    let memory: ProcessMemory

    init() throws {
        process = try TestProcess(BuiltProduct.victim, ["tracked-commands"], options: .init(input: .pipe))
        try process.waitForLine("ready")
        memory = try ProcessMemory(pid: process.pid)
    }

    var pid: Int32 { process.pid }

    /// Sends a command.
    func tell(_ command: String, _ words: [UInt64]) throws {
        try tell([(command, words)])
    }

    /// Sends commands at one go, so that they are carried out while the test does something else.
    func tell(_ commands: [(String, [UInt64])]) throws {
        let lines = commands.map { command, words in
            ([command] + words.map { String($0, radix: 16) }).joined(separator: " ") + "\n"
        }
        try process.input?.write(lines.joined())
    }

    /// Sends a command and returns its answer.
    @discardableResult
    func ask(_ command: String, _ words: UInt64...) throws -> Int64 {
        try tell(command, words)
        return try answer()
    }

    func answer() throws -> Int64 {
        let line = try process.readLine()
        guard let value = UInt64(line, radix: 16) else { throw TestFailure("the victim said \"\(line)\"") }
        return Int64(bitPattern: value)
    }

    /// As ``ask(_:_:)``, and a negative answer fails the test.
    @discardableResult
    func order(_ command: String, _ words: UInt64...) throws -> UInt64 {
        try tell(command, words)
        let answer = try answer()
        guard answer >= 0 else { throw TestFailure("\(command) \(words): errno \(-answer)") }
        return UInt64(answer)
    }

    /// Maps pages and fills them with a value; by default never as huge pages.
    func region(_ pages: UInt64, filled: UInt64? = 1, how: MapKind = .small) throws -> Region {
        let region = Region(start: try order("map", pages, how.rawValue), pages: pages)
        if let filled { try fill(region, filled) }
        return region
    }

    func fill(_ region: Region, _ value: UInt64) throws {
        try order("fill", region.start, region.pages, value)
    }

    func begin(_ way: TrackingWay = .async, scope: TrackingScope = .privateAnonymous) throws -> WriteTracker {
        try way.begin(pid, scope: scope)
    }

    /// Stops all threads for the last round.
    func stopped<Value>(_ body: () throws -> Value) throws -> Value {
        let group = try TraceeGroup.freeze(pid, deadline: .after(patience))
        defer { try? group.thaw() }
        return try body()
    }

    /// Whether a mapping has a flag of write protection or of missing pages.
    var registeredMappings: [String] {
        get throws {
            try ProcessMaps.readDetailed(pid).filter { entry in
                ["um", "uw", "ui"].contains { entry.details?.has($0) ?? false }
            }.map { "\($0.range) \($0.name) \($0.details?.flags.joined(separator: " ") ?? "")" }
        }
    }

    /// Descriptors and what they are.
    var descriptors: [String] {
        get throws {
            try ProcFile.descriptors(of: pid).map {
                "\($0): \(String(decoding: try ProcFile.link("/proc/\(pid)/fd/\($0)") ?? [], as: UTF8.self))"
            }
        }
    }

    enum MapKind: UInt64 {
        case plain = 0
        case sparse = 1
        case huge = 2
        case small = 4
    }
}

/// A strategy, and how it looks at pages: the running kernel would take the short way only.
enum TrackingWay: String, CaseIterable, Sendable {
    case async
    /// As on a kernel that hides what is thrown away.
    case asyncLooksAtAll = "async, looking at all pages"
    case sync
    /// As on a kernel before 6.7.
    case syncReadsEntries = "sync, reading page map entries"

    var strategy: TrackerStrategy {
        switch self {
        case .async, .asyncLooksAtAll: .writeProtectAsync
        case .sync, .syncReadsEntries: .writeProtectSync
        }
    }

    func begin(_ pid: Int32, scope: TrackingScope = .privateAnonymous) throws -> WriteTracker {
        var looking = Looking.shortest(strategy)
        switch self {
        case .async, .sync: return try WriteTracker.begin(pid, strategy: strategy, scope: scope, timeout: patience)
        case .asyncLooksAtAll: looking.seesHoles = false
        case .syncReadsEntries: looking.scans = false
        }
        return try WriteTracker.begin(pid, strategy, scope, patience, looking)
    }
}

/// Pages of the victim.
struct Region: Hashable, CustomStringConvertible {
    var start: UInt64
    var pages: UInt64

    func page(_ index: UInt64) -> UInt64 { start + index * PageSize.base }
    var range: AddressRange { AddressRange(VirtualAddress(start), VirtualAddress(page(pages))) }
    subscript(_ part: Range<UInt64>) -> Region {
        Region(start: page(part.lowerBound), pages: UInt64(part.count))
    }
    var description: String { "\(range)" }
}

extension PageSet {
    /// Places in a region of the pages that are in the set.
    func places(in region: Region) -> [UInt64] {
        let all = region.range.pageNumbers
        var places: [UInt64] = []
        var rest = all
        while let run = nextRun(in: rest) {
            places += run.map { $0 - all.lowerBound }
            rest = run.upperBound..<all.upperBound
        }
        return places
    }
}
