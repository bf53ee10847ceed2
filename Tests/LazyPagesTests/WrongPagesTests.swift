// SPDX-License-Identifier: Apache-2.0
import LazyPages
import Paging
import Testing

@Suite(.serialized, .timeLimit(.minutes(5)))
struct WrongPagesTests {
    @Test func pagesOutsideOfLazyMemoryAreRefused() {
        let machine = makeMachine()
        for arrival in [data(0xff), data(0x10f, 2), data(0x180), data(0x1ff, 2), data(UInt64.max >> 12)] {
            let error = #expect(throws: LazyPagesError.self) { try machine.pagesArrived(arrival) }
            #expect(error?.code == .outsideOfLazyMemory)
        }
        #expect(machine.arrivedPages == 0)
    }

    @Test func aMapOutsideOfLazyMemoryIsRefused() {
        let machine = makeMachine()
        for bad in [run(0xff, 2), run(0x10f, 2), run(0x300, 1), run(0, 1 << 28), run(0x100, 0)] {
            let error = #expect(throws: LazyPagesError.self) { try machine.pageMapArrived([bad]) }
            #expect(error?.code == .outsideOfLazyMemory)
        }
    }

    @Test func aMapThatIsTooLargeIsRefused() {
        var limits = LazyPages.Limits()
        limits.mappedPages = 10
        let machine = makeMachine(limits: limits)
        for bad in [[run(0x100, 11)], [run(0x100, 6), run(0x106, 5)], [run(0x100, UInt64.max)]] {
            let fresh = makeMachine(limits: limits)
            let error = #expect(throws: LazyPagesError.self) { try fresh.pageMapArrived(bad) }
            #expect(error?.code == .mapTooLarge)
        }
        #expect(throws: Never.self) { try machine.pageMapArrived([run(0x100, 10)]) }
    }

    @Test func aMapMayCoverTouchingMappingsInOneRun() throws {
        let machine = Books(segments: [Segment(range(0x100, 4)), Segment(range(0x104, 4))])
        try machine.completeMap([run(0x102, 4)])
        #expect(machine.mappedPages == 4)
        let installs = try machine.installAll(data(0x102, 4))
        #expect(installs == ["space 0 0x102000+2 from 0 data", "space 0 0x104000+2 from 2 data"])
    }

    @Test func theMapEndsOnce() throws {
        let machine = makeMachine()
        try machine.completeMap([])
        let late = #expect(throws: LazyPagesError.self) { try machine.pageMapArrived([run(0x100, 1)]) }
        #expect(late?.code == .mapAlreadyComplete)
        let twice = #expect(throws: LazyPagesError.self) { try machine.pageMapCompleted() }
        #expect(twice?.code == .mapAlreadyComplete)
    }

    @Test func pagesThatContradictTheMapAreRefused() throws {
        let machine = makeMachine()
        try machine.completeMap([run(0x100, 2)])
        let absent = Arrival(address: address(0x101), count: 2, content: .absent)
        for arrival in [data(0x101, 2), data(0x105), absent] {
            let error = #expect(throws: LazyPagesError.self) { try machine.pagesArrived(arrival) }
            #expect(error?.code == .contradiction)
        }
    }

    @Test func aMapThatContradictsPagesIsRefused() throws {
        let machine = makeMachine()
        _ = try machine.pagesArrived(data(0x100))
        try machine.pageMapArrived([run(0x101, 1)])
        let missing = #expect(throws: LazyPagesError.self) { try machine.pageMapCompleted() }
        #expect(missing?.code == .contradiction)
        let other = makeMachine()
        _ = try other.pagesArrived(Arrival(address: address(0x100), count: 1, content: .absent))
        try other.pageMapArrived([run(0x100, 1)])
        let present = #expect(throws: LazyPagesError.self) { try other.pageMapCompleted() }
        #expect(present?.code == .contradiction)
        #expect(!other.isMapComplete)
    }
}
