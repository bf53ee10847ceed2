// SPDX-License-Identifier: Apache-2.0
internal import Paging
internal import ProcessImage

/// The memory of the stub: code, the leader's arena, one arena for each thread.
struct StubLayout {
    /// All of it.
    let range: AddressRange
    private let threadArenaBytes: UInt64

    private static let leaderCalls = 512
    private static let leaderArenaBytes: UInt64 = 512 << 10
    private static let threadCalls = 128

    /// Bytes that a description needs.
    static func bytes(for description: ProcessDescription) -> UInt64 {
        PageSize.base + leaderArenaBytes + arenaBytes(description) * UInt64(description.threads.count)
    }

    /// Lays a stub out in `range`, which has ``bytes(for:)``.
    init(range: AddressRange, for description: ProcessDescription) {
        self.range = range
        threadArenaBytes = Self.arenaBytes(description)
    }

    /// Supplementary groups and the CPU mask are the only things of a thread whose size is not small.
    private static func arenaBytes(_ description: ProcessDescription) -> UInt64 {
        let variable =
            description.threads.map { $0.credentials.groups.count * 4 + $0.scheduling.affinity.count }.max() ?? 0
        let bytes = UInt64(threadCalls * StubCode.entryBytes + variable + 4096)
        return (bytes + PageSize.base - 1) / PageSize.base * PageSize.base
    }

    /// Where the code lies.
    var code: UInt64 { range.lowerBound.rawValue }

    /// The arena for calls of the whole process.
    var leaderArena: StubArena {
        StubArena(table: code + PageSize.base, callCapacity: Self.leaderCalls, size: Self.leaderArenaBytes)
    }

    /// The arena for calls of the thread at `index` of the description.
    func threadArena(_ index: Int) -> StubArena {
        let start = code + PageSize.base + Self.leaderArenaBytes + UInt64(index) * threadArenaBytes
        return StubArena(table: start, callCapacity: Self.threadCalls, size: threadArenaBytes)
    }
}
