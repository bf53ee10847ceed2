// SPDX-License-Identifier: Apache-2.0
internal import LinuxSystem
internal import Paging
internal import Reporting

// What the digest of a page costs, which both sides make once for each page that travels.
extension Report {
    func measureDigest(_ plan: Plan) throws -> JSON {
        let table = Table(
            "Digest of a page, which each side makes once for each page that travels",
            "pages                                     ",
            "ns/page",
            "GiB/s"
        )
        let mebibytes = plan.isQuick ? 64 : 512
        let places = [
            ("just decrypted (64 pages again and again)", 64),
            ("from memory (\(mebibytes) MiB, once)", mebibytes * 256),
        ]
        var members: [JSON.Member] = []
        for (name, pages) in places {
            let runs = try (0..<max(3, plan.repetitions)).map { _ in
                try nanosecondsPerPage(pages, rounds: max(1, 65536 / pages))
            }
            let time = median(of: runs) { $0 }
            table.row(name, decimal(time, 0), decimal(4096 / time * 1e9 / Double(1 << 30), 1))
            members.append(.init(pages == 64 ? "decrypted" : "memory", .decimal(time)))
        }
        return .object(members)
    }

    private func nanosecondsPerPage(_ pages: Int, rounds: Int) throws -> Double {
        let buffer = try TransferBuffer(capacity: pages * PageSize.baseBytes)
        buffer.withMutableBytes(0..<pages * PageSize.baseBytes) { bytes in
            for page in 0..<pages { bytes[page * PageSize.baseBytes] = UInt8(truncatingIfNeeded: page) }
        }
        var digest = PageDigest()
        let began = MonotonicTime.now
        for _ in 0..<rounds {
            buffer.withBytes(0..<pages * PageSize.baseBytes) { bytes in
                for page in 0..<pages {
                    let offset = page * PageSize.baseBytes
                    digest.add(address: VirtualAddress(UInt64(offset)), page: bytes, at: offset)
                }
            }
        }
        let time = began.elapsed / .nanoseconds(1)
        // Somebody looks at it, so that it is made.
        precondition(digest.count == UInt64(pages * rounds), "Benchmarks: pages without a digest")
        return time / Double(pages * rounds)
    }
}
