// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import LazyRestore

struct StreamCountTests {
    @Test(arguments: [(1, 1), (2, 1), (4, 1), (7, 1), (8, 2), (12, 3), (16, 4), (256, 4)])
    func furtherStreamsNeedFurtherCPUs(cpus: Int, streams: Int) {
        #expect(RestoreOptions.streams(asked: nil, cpus: cpus) == streams)
    }

    @Test func whatIsAskedForIsDone() {
        #expect(RestoreOptions.streams(asked: 3, cpus: 2) == 3)
        #expect(RestoreOptions.streams(asked: 1, cpus: 64) == 1)
        #expect(RestoreOptions.streams(asked: 100, cpus: 64) == RestoreOptions.maximumStreams)
    }
}
