// SPDX-License-Identifier: Apache-2.0
import LazyPages
import Paging
import Testing

/// The machine under test in a class, because `#expect` takes no value that cannot be copied; and sentences about it.
final class Books {
    private var machine: LazyPages

    init(segments: [Segment], objects: [Segment] = [], limits: LazyPages.Limits = LazyPages.Limits()) {
        machine = LazyPages(segments: segments, objects: objects, limits: limits)
    }

    func firstPresentPage(in range: AddressRange, of space: SpaceIdentifier) -> UInt64? {
        machine.firstPresentPage(in: range, of: space)
    }

    func owesNothing(_ space: SpaceIdentifier) -> Bool {
        machine.owesNothing(space)
    }

    func nextRequest(forAllOf space: SpaceIdentifier) -> PageRequest? {
        machine.nextRequest(forAllOf: space)
    }

    var isResident: Bool { machine.isResident }
    var hasAllPages: Bool { machine.hasAllPages }
    var isMapComplete: Bool { machine.isMapComplete }
    var mappedPages: UInt64 { machine.mappedPages }
    var arrivedPages: UInt64 { machine.arrivedPages }
    var counters: LazyPages.Counters { machine.counters }
    var livingSpaces: [SpaceIdentifier] { machine.livingSpaces }

    func pageFaulted(_ space: SpaceIdentifier, at address: VirtualAddress) -> FaultAction {
        machine.pageFaulted(space, at: address)
    }

    func nextRequestAhead() -> PageRequest? {
        machine.nextRequestAhead()
    }

    func sentByStream(_ pages: Range<UInt64>) -> Range<UInt64>? {
        machine.sentByStream(pages)
    }

    var awaitsStream: Bool { machine.awaitsStream }

    func nextBrokenPromise() -> Range<UInt64>? {
        machine.nextBrokenPromise()
    }

    func connectionsRenewed() {
        machine.connectionsRenewed()
    }

    func requestFailed(_ request: PageRequest) {
        machine.requestFailed(request)
    }

    func nextPendingRequest(from address: VirtualAddress) -> PageRequest? {
        machine.nextPendingRequest(from: address)
    }

    func pagesArrived(_ arrival: Arrival) throws(LazyPagesError) -> FirstArrivals {
        try machine.pagesArrived(arrival)
    }

    func nextInstall(of arrival: Arrival, limit: Int = 64) -> Install? {
        machine.nextInstall(of: arrival, limit: limit)
    }

    func installed(_ install: Install, _ outcome: InstallOutcome) {
        machine.installed(install, outcome)
    }

    func pageMapArrived(_ runs: [PageRun]) throws(LazyPagesError) {
        try machine.pageMapArrived(runs)
    }

    func pageMapCompleted() throws(LazyPagesError) {
        try machine.pageMapCompleted()
    }

    func preCopyMapArrived(_ runs: [PageRun]) throws(LazyPagesError) {
        try machine.preCopyMapArrived(runs)
    }

    func nextLocalRun(from page: UInt64, limit: UInt64) -> Range<UInt64>? {
        machine.nextLocalRun(from: page, limit: limit)
    }

    func guardsArrived(_ runs: [PageRun]) throws(LazyPagesError) {
        try machine.guardsArrived(runs)
    }

    func requestMetGuards(_ run: PageRun) throws(LazyPagesError) {
        try machine.requestMetGuards(run)
    }

    func nextPendingGuards(of space: SpaceIdentifier = .process) -> AddressRange? {
        machine.nextPendingGuards(of: space)
    }

    func isPendingGuard(_ space: SpaceIdentifier = .process, at address: VirtualAddress) -> Bool {
        machine.isPendingGuard(space, at: address)
    }

    func guardsInstalled(_ space: SpaceIdentifier = .process, _ range: AddressRange) {
        machine.guardsInstalled(space, range)
    }

    func removed(_ space: SpaceIdentifier, _ range: AddressRange) {
        machine.removed(space, range)
    }

    func unmapped(_ space: SpaceIdentifier, _ range: AddressRange) -> UnmapAction {
        machine.unmapped(space, range)
    }

    func unmapConfirmed(_ space: SpaceIdentifier, _ range: AddressRange) {
        machine.unmapConfirmed(space, range)
    }

    func remapped(_ space: SpaceIdentifier, from: VirtualAddress, to: VirtualAddress, length: UInt64) {
        machine.remapped(space, from: from, to: to, length: length)
    }

    func forked(_ space: SpaceIdentifier) -> SpaceIdentifier? {
        machine.forked(space)
    }

    func spaceEnded(_ space: SpaceIdentifier) {
        machine.spaceEnded(space)
    }
}

extension Books {
    /// A fault on `page` must be answered by a request for `count` pages.
    func expectRequest(
        _ page: UInt64,
        _ count: UInt32 = 1,
        in space: SpaceIdentifier = .process,
        _ location: SourceLocation = #_sourceLocation
    ) {
        let action = pageFaulted(space, at: address(page))
        let expected = FaultAction.request(PageRequest(address: address(page), count: count, expected: count - 1))
        #expect(action == expected, sourceLocation: location)
    }

    /// A fault on `page` must be answered by `count` pages of zeros.
    func expectZeros(
        _ page: UInt64,
        _ count: UInt32 = 1,
        in space: SpaceIdentifier = .process,
        _ location: SourceLocation = #_sourceLocation
    ) {
        let action = pageFaulted(space, at: address(page))
        let expected = FaultAction.installZeros(ZeroFill(space: space, address: address(page), count: count))
        #expect(action == expected, sourceLocation: location)
    }

    /// Takes an arrival and installs all of it; the installs as text.
    func installAll(_ arrival: Arrival) throws -> [String] {
        _ = try pagesArrived(arrival)
        var result: [String] = []
        while let install = nextInstall(of: arrival) {
            let kind = install.isZeros ? "zeros" : "data"
            result.append("\(install.space) \(install.address)+\(install.count) from \(install.offset) \(kind)")
            installed(install, .installed(install.count))
        }
        return result
    }

    /// The whole page map in one piece.
    func completeMap(_ runs: [PageRun]) throws {
        try pageMapArrived(runs)
        try pageMapCompleted()
    }
}

func address(_ page: UInt64) -> VirtualAddress {
    VirtualAddress(pageNumber: page)
}

func range(_ page: UInt64, _ count: UInt64) -> AddressRange {
    AddressRange(pageNumbers: page..<page + count)
}

func run(_ page: UInt64, _ count: UInt64) -> PageRun {
    PageRun(address: address(page), count: count)
}

func data(_ page: UInt64, _ count: UInt32 = 1) -> Arrival {
    Arrival(address: address(page), count: count, content: .data)
}

/// One mapping of 16 pages from page 0x100, and one of 8 pages from 0x200 that a forked child does not get.
func makeMachine(limits: LazyPages.Limits = LazyPages.Limits()) -> Books {
    Books(
        segments: [
            Segment(range(0x100, 16)),
            Segment(range(0x200, 8), isInherited: false),
        ],
        limits: limits
    )
}
